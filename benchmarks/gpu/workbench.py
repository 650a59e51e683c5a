"""What the scripts for a GPU machine share: generators put together, their maps, and the backend or a reason.

Everything that needs no GPU is done first, so that a rehearsal without one shows that the rest is in order.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from generators import BenchmarkGenerator, srresnet, wav2lip_student, wav2lip_teacher

from qsens.calibration.batches import InputCache
from qsens.calibration.ranges import Ranges, collect_ranges
from qsens.core.layer import map_of, uniform_map
from qsens.core.precision import Precision, PrecisionMap
from qsens.engines import tensorrt as tensorrt_engine
from qsens.engines import tensorrt_rtx as tensorrt_rtx_engine
from qsens.engines.lowering.lower import LoweredGraph, lower_graph
from qsens.engines.lowering.plan import LoweringOptions, LoweringPlan
from qsens.engines.tensorrt import TensorRtBackend
from qsens.engines.tensorrt_rtx import TensorRtRtxBackend
from qsens.graph.prepare import prepare_graph

RESULTS = Path(__file__).parent / "results"
NEEDS_GPU = 3
GENERATORS = {
    "student": wav2lip_student,
    "teacher": wav2lip_teacher,
    "srresnet-small": lambda: srresnet(blocks=2, channels=16, side=32),
}
Array = np.ndarray[Any, np.dtype[Any]]


class SmoothSamples:
    """Seeded smooth fields as a sample set."""

    name = "smooth fields"
    clusters = None

    def __init__(self, generator: BenchmarkGenerator, count: int, seed: int) -> None:
        # Imported here: the module lies in the folder that this one puts on the path.
        from generators import sample_of

        random = np.random.default_rng(seed)
        self._samples = [sample_of(generator, random) for _ in range(count)]
        self.digest = f"{generator.name}/{count}/{seed}"

    def __len__(self) -> int:
        return len(self._samples)

    def sample(self, index: int) -> Mapping[str, Array]:
        """Arrays of one sample by input name, without the batch axis."""
        return self._samples[index]

    def describe(self) -> Mapping[str, str]:
        """Nothing was done to them."""
        return {}


@dataclass(frozen=True, eq=False)
class Prepared:
    """A generator with its plan and what it is calibrated on."""

    name: str
    plan: LoweringPlan
    samples: SmoothSamples
    options: LoweringOptions

    def ranges(self, method: str) -> Ranges:
        """Our ranges over the samples."""
        observer = self.plan.observer(self.options.placement, 0)
        cache = InputCache(self.samples, self.plan.graph, 1)

        def passes() -> Iterator[Mapping[str, Array]]:
            return observer.values(observer.tensors, cache)

        return collect_ranges(passes, observer.tensors, method=method, digest=self.samples.digest)

    def lower(self, precision_map: PrecisionMap, ranges: Ranges, flavour: str) -> LoweredGraph:
        """The graph of a map in a flavour."""
        return lower_graph(self.plan, precision_map, ranges, self.options, flavour=flavour)

    def feeds(self, batch: int) -> Mapping[str, Array]:
        """Inputs of a batch, again from the first sample where there are too few."""
        cache = InputCache(self.samples, self.plan.graph, 1)
        return cache.feeds([self.samples.sample(place % len(self.samples)) for place in range(batch)])[0]


def prepare(name: str, samples: int) -> Prepared:
    """One of `GENERATORS`, analysed."""
    generator = GENERATORS[name]()
    graph = prepare_graph(generator.model)
    return Prepared(name, LoweringPlan.of(graph), SmoothSamples(generator, samples, 1), LoweringOptions())


def boundary(prepared: Prepared, share: float) -> PrecisionMap:
    """INT8 in the first share of the layers, FP16 in the rest."""
    layers = prepared.plan.graph.layers
    count = round(share * len(layers))
    return map_of(
        layers,
        {layer.name: Precision.INT8 if layer.index < count else Precision.FP16 for layer in layers},
    )


def labelled_maps(prepared: Prepared) -> dict[str, PrecisionMap]:
    """FP32, FP16 and INT8 everywhere; MIX is INT8 in the first half and FP16 in the rest."""
    layers = prepared.plan.graph.layers
    uniform = {str(precision).upper(): uniform_map(layers, precision) for precision in Precision}
    return {**uniform, "MIX": boundary(prepared, 0.5)}


def flavour_without_gpu(backend: str) -> str:
    """The flavour to rehearse with: what the newest TensorRT takes."""
    return TensorRtRtxBackend.flavour if backend == "tensorrt-rtx" else "strong"


def backend_or_stop(name: str) -> TensorRtBackend | TensorRtRtxBackend:
    """The backend; without a GPU the script ends here and says what it needs."""
    module = tensorrt_rtx_engine if name == "tensorrt-rtx" else tensorrt_engine
    reason = module.problem() or tensorrt_engine.driver_problem()
    if reason is not None:
        print("\nEverything before the first engine is in order. The engines need TensorRT and a GPU:")
        print(reason)
        raise SystemExit(NEEDS_GPU)
    return TensorRtRtxBackend() if name == "tensorrt-rtx" else TensorRtBackend()

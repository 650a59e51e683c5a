"""A benchmark generator put together as a sweep would: files on disk, calibrated, ready to score maps."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from generators import BenchmarkGenerator, sample_of, smooth_field
from PIL import Image

from qsens.core.layer import Layer, map_of, uniform_map
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import SweepSpec
from qsens.run.evaluate import Evaluator, calibrated_workload
from qsens.run.folder import RunFolder
from qsens.run.open import OpenedSweep, open_sweep
from qsens.run.stages import Workload

REFERENCE_IMAGES = 64
CALIBRATION_SAMPLES = 16


@dataclass(frozen=True)
class Bench:
    """One generator, ready to score."""

    assembled: OpenedSweep
    workload: Workload
    folder: RunFolder

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of the generator."""
        return self.assembled.graph.layers

    def evaluator(self) -> Evaluator:
        """A new evaluator, that has not scored FP32 yet and runs every map whole."""
        folder = self.folder
        alone = replace(self.workload, expected=())
        return Evaluator(alone, evidence=folder.evidence, samples=folder.samples, fp32=None)


@contextmanager
def opened(
    generator: BenchmarkGenerator, *, images: int, spec: SweepSpec, inputs: Path | None = None
) -> Iterator[Bench]:
    """Write model, samples and reference images to a temporary folder, calibrate, and hand out the rest.

    `spec` holds the options; its files are filled in here. `inputs`: a folder of images to use as samples,
    with `spec.reference` set too; by default `images` samples are made up.
    """
    with tempfile.TemporaryDirectory(prefix="qsens-benchmark-") as name:
        folder = Path(name)
        complete = _complete_spec(spec, generator, images, folder, inputs)
        assembled = open_sweep(complete)
        with RunFolder.open(folder / "run", assembled.spec) as run:
            yield Bench(assembled, calibrated_workload(assembled, run, _silent), run)


def _complete_spec(
    spec: SweepSpec, generator: BenchmarkGenerator, images: int, folder: Path, inputs: Path | None
) -> SweepSpec:
    model = folder / f"{generator.name}.onnx"
    onnx.save(generator.model, model)
    values = {**spec.to_mapping(), "checkpoint": str(model), "evaluation_samples": images}
    if inputs is not None:
        return SweepSpec.from_mapping({**values, "calibration": str(inputs)})
    values["calibration"] = str(write_samples(folder / "calibration", generator, CALIBRATION_SAMPLES, 1))
    values["evaluation"] = str(write_samples(folder / "evaluation", generator, images, 2))
    values["reference"] = str(write_pictures(folder / "reference", REFERENCE_IMAGES, 3))
    return SweepSpec.from_mapping(values)


def write_samples(folder: Path, generator: BenchmarkGenerator, count: int, seed: int) -> Path:
    """A folder of `.npz` samples, smooth random fields; returns `folder`."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for index in range(count):
        np.savez(folder / f"{index:05d}.npz", **sample_of(generator, random))
    return folder


def write_pictures(folder: Path, count: int, seed: int, side: int = 96) -> Path:
    """A folder of PNG pictures, smooth random fields; returns `folder`."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for index in range(count):
        pixels = smooth_field(random, (3, side, side), (0.0, 255.0)).astype(np.uint8)
        Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / f"{index:05d}.png")
    return folder


def benchmark_maps(layers: Sequence[Layer]) -> dict[str, PrecisionMap]:
    """INT8 and FP16 everywhere; INT8 in the first half of the layers and FP16 in the rest; its reverse."""
    return {
        "int8": uniform_map(layers, Precision.INT8),
        "fp16": uniform_map(layers, Precision.FP16),
        "mixed": _cut_in_half(layers, Precision.INT8, Precision.FP16),
        "reverse": _cut_in_half(layers, Precision.FP16, Precision.INT8),
    }


def _cut_in_half(layers: Sequence[Layer], before: Precision, after: Precision) -> PrecisionMap:
    half = len(layers) // 2
    return map_of(layers, {layer.name: before if layer.index < half else after for layer in layers})


def _silent(done: int, total: int, label: str) -> None:
    """A `Progress` that shows nothing."""

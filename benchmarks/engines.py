"""What INT8 pays on this CPU: OpenVINO engines of mixed maps against its FP32 engine, with their audit.

python benchmarks/engines.py [--generators talker teacher srresnet] [--batch-sizes 1 16] [--repeats 15]
    [--threads 1]

`talker` is the demo's trained network, the others are in `generators.py`. "half" is INT8 in the first half
of the layers and FP16, which this runtime computes in FP32, in the rest. Each turn runs every map of a
generator at one batch once, in turn, for at least 50 ms; times are medians over turns of one batch, ratios
are of these medians. "INT8" counts layers: really INT8 by the kernels that OpenVINO chose, of those asked
for; "reformats" counts the steps between them that only change type or layout. PSNR is against FP32 over 16
samples: of the engine, and of the graph that a sweep scores. Batches above 1 are for the talker only.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from generators import BUILDERS
from machine import limit_math_threads, median_cpu, median_wall, print_machine, timed, timed_in_turns
from numpy.typing import NDArray
from workload import benchmark_maps, opened

from qsens.calibration.batches import Feed, InputCache
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import SweepSpec
from qsens.device.audit import mismatches
from qsens.device.machine import this_cpu_saturates
from qsens.engines.cpu_engines import CpuEngine
from qsens.engines.lowering.lower import lower_graph
from qsens.engines.onnxruntime import OnnxRuntimeBackend
from qsens.engines.openvino import OpenVinoBackend
from qsens.run.evaluate import calibrated_workload
from qsens.run.folder import RunFolder
from qsens.run.open import open_sweep
from qsens.run.stages import Workload
from qsens.scoring.pictures import picture_output

GENERATORS = ("talker", "teacher", "srresnet")
SAMPLES = 16
LEAST_SECONDS = 0.05
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Subject:
    """One generator, calibrated, with samples to run."""

    name: str
    work: Workload

    def feeds(self, batch: int) -> list[Feed]:
        """All samples, in batches."""
        cache = InputCache(self.work.samples, self.work.plan.graph, batch)
        return [feed for feeds in cache.batches() for feed in feeds]

    def maps(self) -> dict[str, PrecisionMap]:
        """FP32, INT8 in the first half of the layers, INT8 everywhere."""
        made = benchmark_maps(self.work.plan.graph.layers)
        return {"FP32": PrecisionMap(Precision.FP32), "half": made["mixed"], "INT8": made["int8"]}


def main() -> None:
    """Print one line for each generator, batch and map."""
    options = parsed_options()
    limit_math_threads(options.threads)
    print_machine("openvino")
    print(f"{options.threads} threads, {options.repeats} turns; INT8 kernels of this CPU: {saturation()}\n")
    header = ("generator", "batch", "map", "CPU ms", "wall ms", "against FP32", "INT8", "reformats")
    print("{:<9} {:>5} {:<5} {:>8} {:>8} {:>12} {:>8} {:>9}".format(*header), end=" ")
    print(f"{'MB':>6} {'PSNR':>7} {'scored':>7}  other", flush=True)
    for name in options.generators:
        with subject(name) as found:
            sizes = options.batch_sizes if name == "talker" else [1]
            for batch in sizes:
                print_rows(found, batch, options)


def saturation() -> str:
    """What this CPU's INT8 sums do."""
    words = {True: "saturate (no VNNI)", False: "exact", None: "unknown"}
    return words[this_cpu_saturates()]


@contextmanager
def subject(name: str) -> Iterator[Subject]:
    """A generator by name, calibrated."""
    spec = SweepSpec(metrics=("psnr",), threads=1)
    if name != "talker":
        with opened(BUILDERS[name](), images=SAMPLES, spec=spec) as bench:
            yield Subject(name, bench.workload)
        return
    from qsens.zoo.talker.demo import TalkerDemo

    with tempfile.TemporaryDirectory(prefix="qsens-benchmark-") as folder:
        demo = TalkerDemo().spec_values(Path(folder))
        kept = {key: demo[key] for key in ("model", "calibration", "evaluation", "calibration_samples")}
        values = {**spec.to_mapping(), **kept, "evaluation_samples": SAMPLES}
        assembled = open_sweep(SweepSpec.from_mapping(values))
        with RunFolder.open(Path(folder) / "run", assembled.spec) as run:
            yield Subject(name, calibrated_workload(assembled, run, _silent))


def print_rows(found: Subject, batch: int, options: argparse.Namespace) -> None:
    """Measure all maps of one generator at one batch, in turns."""
    backend = OpenVinoBackend(threads=options.threads)
    scored = {label: exact_pictures(found, wanted) for label, wanted in found.maps().items()}
    feed = found.feeds(batch)[0]
    with ExitStack() as stack:
        engines = {
            label: stack.enter_context(backend.build(lowered(found.work, wanted, backend.flavour)))
            for label, wanted in found.maps().items()
        }
        calls = {label: run_of(engine, feed) for label, engine in engines.items()}
        rounds = math.ceil(LEAST_SECONDS / timed(calls["FP32"]).cpu)
        repeated = {label: _repeated(call, rounds) for label, call in calls.items()}
        times = timed_in_turns(repeated, options.repeats)
        for label, engine in engines.items():
            cpu, wall = (median(times[label]) / rounds * 1e3 for median in (median_cpu, median_wall))
            ratio = median_cpu(times["FP32"]) / median_cpu(times[label])
            print(f"{found.name:<9} {batch:>5} {label:<5} {cpu:>8.2f} {wall:>8.2f} {ratio:>11.2f}x", end=" ")
            print(described(found, engine, scored[label], scored["FP32"], batch), flush=True)


def run_of(engine: CpuEngine, feed: Feed) -> Callable[[], object]:
    """One inference, compiled for this batch already."""
    engine.device_engine.run(feed)
    return lambda: engine.device_engine.run(feed)


def described(found: Subject, engine: CpuEngine, scored: FloatArray, baseline: FloatArray, batch: int) -> str:
    """The columns after the times."""
    audit = engine.audit
    asked = sum(row.requested == "int8" for row in audit)
    real = sum(row.requested == "int8" == row.actual for row in audit)
    reformats = sum(step.is_reformat for step in engine.device_engine.executed_layers())
    notes = dict.fromkeys(row.note for row in audit if row.note)
    others = [f"{len(mismatches(audit))} mismatches"] if mismatches(audit) else []
    shipped = psnr(pictures(engine.device_engine.run, found.feeds(batch)), baseline)
    return (
        f"{f'{real}/{asked}':>8} {reformats:>9} {engine.size_bytes / 1e6:>6.1f} "
        f"{shipped:>7.2f} {psnr(scored, baseline):>7.2f}  {', '.join([*others, *notes])}"
    )


def exact_pictures(found: Subject, wanted: PrecisionMap) -> FloatArray:
    """The picture output of the graph that a sweep scores, over all samples."""
    with OnnxRuntimeBackend(threads=1).build(lowered(found.work, wanted, "exact")) as engine:
        return pictures(engine.run, found.feeds(SAMPLES))


def pictures(run: Callable[[Feed], Mapping[str, FloatArray]], feeds: list[Feed]) -> FloatArray:
    """The picture output over all feeds."""
    outputs = [run(feed) for feed in feeds]
    name = picture_output(outputs[0], SweepSpec().output)
    return np.concatenate([one[name] for one in outputs])


def psnr(one: FloatArray, other: FloatArray) -> float:
    """Decibels below the largest magnitude of `other`, 100 at most, as where nothing differs."""
    error = float(np.mean((one - other) ** 2))
    return min(100.0, 10 * math.log10(float(np.abs(other).max()) ** 2 / error)) if error else 100.0


def lowered(work: Workload, wanted: PrecisionMap, flavour: str) -> object:
    """The graph of a map in a flavour."""
    return lower_graph(work.plan, wanted, work.ranges, work.options, flavour)


def _repeated(call: Callable[[], object], rounds: int) -> Callable[[], object]:
    return lambda: [call() for _ in range(rounds)] and None


def _silent(done: int, total: int, label: str) -> None:
    """A `Progress` that shows nothing."""


def parsed_options() -> argparse.Namespace:
    """Command line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generators", nargs="+", choices=GENERATORS, default=list(GENERATORS))
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, SAMPLES])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Seconds a map of a sweep takes: against the floor, with work shared between maps, with 2 workers, naively.

python benchmarks/sweep.py [--generators talker style student srresnet teacher] [--images N] [--repeats 1]
    [--by layer] [--batch-size 8] [--threads 1] [--workers 2] [--no-naive] [--no-wall]

Strategy boundary, INT8 growing from the first layer, every map of it. "floor" is ONNX Runtime at its default
optimisation on the FP32 generator, and the extractor (lite0), over the same batches. "plain" is a sweep that
runs every map whole (backend.reuse_mib=0), "shared" one that keeps what maps have in common; both are whole
maps with all metrics and evidence, evaluated map by map in turns. CPU seconds a map, means over the maps;
medians over the turns. "wall" is a real sweep of the same maps: in this process, and on workers once both
have opened the generator (one run each).

"naive" is what a loop without qsens does for a map: run the same simulated graph, write PNG files, and call
pytorch-fid's functions on their folder; the reference statistics are given. Its Inception has random weights,
since the published ones cannot be downloaded here: they cost the same. One map, run once.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, median

import numpy as np
from generators import BUILDERS
from machine import Seconds, limit_math_threads, print_machine, timed
from map_cost import floor_outputs, floor_session
from PIL import Image
from workload import Bench, opened

from qsens.api import score_maps
from qsens.calibration.batches import InputCache, run_feeds
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import Options, SweepSpec
from qsens.engines.lowering.lower import lower_graph
from qsens.engines.onnxruntime import OnnxRuntimeBackend
from qsens.run.evaluate import Evaluator, calibrated_workload
from qsens.run.folder import RunFolder
from qsens.run.loop import plan_maps
from qsens.run.open import open_sweep
from qsens.run.workers import open_pool, runner_on
from qsens.scoring.pictures import picture_output, pictures_from_values

IMAGES = {"talker": 64, "style": 24, "student": 64, "srresnet": 16, "teacher": 16}
METRICS = ("fid", "fid-fp32", "kid", "psnr", "ssim")
# Trials until every worker has opened the generator: FP32 on one, then one map on each of two.
OPENING = 4


@dataclass(frozen=True)
class Row:
    """Means over the maps; `naive` is `None` and `wall_s` is empty where they were not measured."""

    maps: int
    floor: Seconds
    plain: Seconds
    shared: Seconds
    wall_s: list[float]
    naive: Seconds | None


def main() -> None:
    """Print one line for each generator."""
    options = parsed_options()
    limit_math_threads(options.threads)
    print_machine("scipy", "torch", "pytorch-fid")
    print(f"batch {options.batch_size}, {options.threads} threads, boundary by {options.by}\n")
    print(f"{'':<9} {'':>6} {'':>5}  {'CPU seconds a map':<53} {'wall seconds a map':<28}")
    header = ("generator", "images", "maps", "floor", "plain", "shared", "saved", "shared/floor", "naive")
    more = ("1 process", f"{options.workers} workers")
    print("{:<9} {:>6} {:>5}  {:>7} {:>7} {:>7} {:>7} {:>13} {:>7}".format(*header), end="  ")
    print("{:>10} {:>10}".format(*more), flush=True)
    for name in options.generators:
        images = options.images or IMAGES[name]
        with opened_generator(name, images, options) as bench:
            print(described(name, images, measured(bench, options)), flush=True)


@contextmanager
def opened_generator(name: str, images: int, options: argparse.Namespace) -> Iterator[Bench]:
    """The benchmark generator, or the demo's trained talker over its own sets."""
    spec = SweepSpec(
        batch_size=options.batch_size,
        threads=options.threads,
        extractor=("lite0",),
        metrics=METRICS,
        strategy="boundary",
        strategy_options=Options.of({"by": options.by, "direction": "int8-first"}),
    )
    if name != "talker":
        with opened(BUILDERS[name](), images=images, spec=spec) as bench:
            yield bench
        return
    from qsens.zoo.talker.demo import TalkerDemo

    with tempfile.TemporaryDirectory(prefix="qsens-benchmark-") as folder:
        demo = TalkerDemo().spec_values(Path(folder))
        own = ("model", "calibration", "evaluation", "reference", "calibration_samples", "placement")
        values = {**spec.to_mapping(), **{key: demo[key] for key in own}, "evaluation_samples": images}
        assembled = open_sweep(SweepSpec.from_mapping(values))
        with RunFolder.open(Path(folder) / "run", assembled.spec) as run:
            yield Bench(assembled, calibrated_workload(assembled, run, silent), run)


def measured(bench: Bench, options: argparse.Namespace) -> Row:
    """All columns of one generator."""
    maps = plan_maps(bench.layers, bench.assembled.strategy).maps[1:]
    turns = [timed_turn(bench, maps) for _ in range(options.repeats)]
    middle = [
        Seconds(median(turn[part].cpu for turn in turns), median(turn[part].wall for turn in turns))
        for part in range(3)
    ]
    processes = () if options.no_wall else (None, options.workers)
    wall_s = [real_sweep_s(bench, workers) for workers in processes]
    naive = None if options.no_naive else timed_naive_map(bench, maps[len(maps) // 2], options.threads)
    return Row(len(maps), *middle, wall_s, naive)


def timed_turn(bench: Bench, maps: Sequence[PrecisionMap]) -> list[Seconds]:
    """Means over the maps: floor, plain and shared, map by map in turns."""
    work = bench.workload
    whole = OnnxRuntimeBackend(threads=bench.assembled.spec.threads, reuse_mib=0)
    with tempfile.TemporaryDirectory(prefix="qsens-benchmark-") as name:
        evaluators = [
            Evaluator(workload, evidence=folder, samples=folder, fp32=None)
            for workload, folder in (
                (replace(work, backend=whole), Path(name) / "plain"),
                (replace(work, expected=maps), Path(name) / "shared"),
            )
        ]
        for evaluate in evaluators:
            evaluate.evidence.mkdir()
            evaluate(0, PrecisionMap(Precision.FP32))
        floor = floor_calls(bench)
        times: list[list[Seconds]] = [[timed(floor) for _ in range(2)], [], []]
        for number, requested in enumerate(maps, 1):
            for column, evaluate in enumerate(evaluators, 1):
                times[column].append(timed(partial(evaluate, number, requested)))
    return [mean_of(found) for found in times]


def mean_of(times: Sequence[Seconds]) -> Seconds:
    """Mean CPU and wall seconds."""
    return Seconds(mean(entry.cpu for entry in times), mean(entry.wall for entry in times))


def floor_calls(bench: Bench) -> Callable[[], None]:
    """One FP32 forward of the generator over all samples, and one of the extractor."""
    work = bench.workload
    session = floor_session(bench, bench.assembled.spec.threads)
    batches = list(InputCache(work.samples, work.plan.graph, work.batch_size).batches())
    assert work.context.extractor is not None, "the metrics need features"
    extract = work.context.extractor.run

    def call() -> None:
        for feeds in batches:
            outputs = floor_outputs(session, feeds)
            extract(pictures_from_values(outputs[picture_output(outputs, work.output)], work.output))

    return call


def real_sweep_s(bench: Bench, workers: int | None) -> float:
    """Wall seconds a map of a real sweep, from the moment when every process has opened the generator."""
    moments: list[tuple[int, float]] = []

    def hear(done: int, total: int, label: str) -> None:
        moments.append((done, time.perf_counter()))

    with tempfile.TemporaryDirectory(prefix="qsens-benchmark-") as name, open_pool(workers, None) as pool:
        runner = None if pool is None else runner_on(pool)
        assembled = bench.assembled
        # Calibration reports too: what is heard before the first map starts over.
        study = score_maps(assembled, Path(name) / "run", progress=hear, runner=runner)
    last = len(study.trials)
    calibrated = max((place for place, (done, _) in enumerate(moments) if done == 0), default=0)
    start = next(moment for moment in moments[calibrated:] if moment[0] >= OPENING)
    return (moments[-1][1] - start[1]) / (last - start[0])


def timed_naive_map(bench: Bench, requested: PrecisionMap, threads: int) -> Seconds:
    """One map: run it, write PNG files, and let pytorch-fid read them and compute its distance."""
    import torch

    from qsens.zoo.training.pytorch_fid import import_torchvision, untrained_inception

    import_torchvision()
    from pytorch_fid.fid_score import calculate_activation_statistics, calculate_frechet_distance

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = untrained_inception()
    real = np.random.default_rng(0).standard_normal((4096, 2048))
    reference = real.mean(axis=0), np.cov(real, rowvar=False)

    def statistics(folder: Path) -> tuple[np.ndarray, np.ndarray]:
        files = sorted(folder.glob("*.png"))
        found: tuple[np.ndarray, np.ndarray] = calculate_activation_statistics(
            files, network, batch_size=min(50, len(files)), num_workers=0
        )
        return found

    def call() -> None:
        with tempfile.TemporaryDirectory(prefix="qsens-benchmark-") as name:
            write_pictures_of(bench, requested, Path(name))
            calculate_frechet_distance(*statistics(Path(name)), *reference)

    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")  # SciPy announces the end of an option that pytorch-fid uses
        return timed(call)


def write_pictures_of(bench: Bench, requested: PrecisionMap, folder: Path) -> None:
    """Build the map, run it over the samples, and write one PNG file a picture."""
    work = bench.workload
    lowered = lower_graph(work.plan, requested, work.ranges, work.options)
    inputs = InputCache(work.samples, work.plan.graph, work.batch_size)
    count = 0
    with work.backend.build(lowered) as engine:
        for feeds in inputs.batches():
            outputs = run_feeds(engine, feeds)
            for picture in pictures_from_values(outputs[picture_output(outputs, work.output)], work.output):
                Image.fromarray(picture.transpose(1, 2, 0)).save(folder / f"{count:05d}.png")
                count += 1


def described(name: str, images: int, row: Row) -> str:
    """One line of the table."""
    saved = 1 - row.shared.cpu / row.plain.cpu
    naive = "-" if row.naive is None else f"{row.naive.cpu:.1f}"
    return (
        f"{name:<9} {images:>6} {row.maps:>5}  {row.floor.cpu:>7.2f} {row.plain.cpu:>7.2f} "
        f"{row.shared.cpu:>7.2f} {saved:>7.1%} {row.shared.cpu / row.floor.cpu:>12.2f}x {naive:>7}  "
        f"{' '.join(f'{seconds:>10.2f}' for seconds in row.wall_s)}"
    )


def silent(done: int, total: int, label: str) -> None:
    """A `Progress` that shows nothing."""


def parsed_options() -> argparse.Namespace:
    """Command line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generators", nargs="+", choices=list(IMAGES), default=list(IMAGES))
    parser.add_argument("--images", type=int, help="for every generator; by default a few seconds' worth")
    parser.add_argument("--by", choices=("layer", "block"), default="layer")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--no-naive", action="store_true")
    parser.add_argument("--no-wall", action="store_true", help="leave the real sweeps out")
    return parser.parse_args()


if __name__ == "__main__":
    main()

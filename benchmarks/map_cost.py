"""What scoring one map costs: against one FP32 forward of the generator and one forward of the extractor.

python benchmarks/map_cost.py [--generators student teacher srresnet style] [--images N] [--repeats 3]
    [--placements inputs residual dense] [--maps int8 fp16 mixed] [--batch-size 8] [--threads 1]

The floor is ONNX Runtime at its default optimisation over the same batches, and the extractor once.
"simulation" is the map's engine alone; "whole map" is everything a sweep does for it: lowering, building
("build"), running, uint8 pictures, features, all metrics with their errors, and evidence written to disk.
"overhead" is what the whole map takes beyond simulation and extractor, as a share of these; "at 256" is
the same for the default number of samples, where building and starting up count less: build is taken as
it is, the rest in proportion. CPU seconds of one thread unless a column says wall; seconds are medians
over interleaved turns, ratios and shares are of the fastest turns: other work on a machine only ever adds
time, and the overhead is a small difference of large numbers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import onnxruntime
from generators import BUILDERS
from machine import (
    Seconds,
    limit_math_threads,
    median_cpu,
    median_wall,
    print_machine,
    timed_in_turns,
)
from workload import Bench, benchmark_maps, opened

from qsens.calibration.batches import Feed, InputCache, run_feeds
from qsens.core.interfaces import Engine
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import PLACEMENTS, SweepSpec
from qsens.engines.lowering.lower import lower_graph
from qsens.scoring.pictures import picture_output, pictures_from_values

IMAGES = {"student": 128, "teacher": 16, "srresnet": 16, "style": 32}
DEFAULT_IMAGES = SweepSpec().evaluation_samples
MAPS = ("int8", "fp16", "mixed")
LARGEST_SIMULATION = 1.35
LARGEST_OVERHEAD = 0.15


def main() -> None:
    """Print one line for each generator, placement and map."""
    options = parsed_options()
    limit_math_threads(options.threads)
    print_machine("onnx", "scipy")
    print(f"batch {options.batch_size}, {options.threads} threads, {options.repeats} turns;")
    print(f"targets: simulation <= {LARGEST_SIMULATION}x FP32, ", end="")
    print(f"overhead at {DEFAULT_IMAGES} images <= {LARGEST_OVERHEAD:.0%}\n")
    header = ("generator", "images", "placement", "map", "FP32 s", "extractor s", "simulation s", "build s")
    more = ("whole map s", "sim/FP32", "overhead", f"at {DEFAULT_IMAGES}", "map/floor", "wall s", "verdict")
    print("{:<9} {:>6} {:<9} {:<5} {:>7} {:>11} {:>12} {:>7}".format(*header), end=" ")
    print("{:>11} {:>8} {:>8} {:>7} {:>9} {:>7}  {}".format(*more), flush=True)
    for name in options.generators:
        for placement in options.placements:
            print_rows(name, placement, options)


def print_rows(name: str, placement: str, options: argparse.Namespace) -> None:
    """Measure one generator at one placement."""
    images = options.images or IMAGES[name]
    spec = SweepSpec(placement=placement, batch_size=options.batch_size, threads=options.threads)
    with opened(BUILDERS[name](), images=images, spec=spec) as bench:
        for row, requested in benchmark_maps(bench.layers).items():
            # Placement changes INT8 layers only, and most where all layers are.
            if row not in options.maps or (row != "int8" and placement != options.placements[0]):
                continue
            times = timed_map(bench, requested, options)
            print(f"{name:<9} {images:>6} {placement:<9} {row:<5} {described(times, images)}", flush=True)


def timed_map(bench: Bench, requested: PrecisionMap, options: argparse.Namespace) -> dict[str, list[Seconds]]:
    """Times of the floor, the simulation and the whole map."""
    work = bench.workload
    batches = list(InputCache(work.samples, work.plan.graph, work.batch_size).batches())
    session = floor_session(bench, options.threads)
    pictures = [
        pictures_from_values(outputs[picture_output(outputs, work.output)], work.output)
        for outputs in (floor_outputs(session, feeds) for feeds in batches)
    ]
    assert work.context.extractor is not None, "the default metrics need features"
    extract = work.context.extractor.run
    evaluate = bench.evaluator()
    evaluate(0, PrecisionMap(Precision.FP32))

    def build() -> Engine:
        return work.backend.build(lower_graph(work.plan, requested, work.ranges, work.options))

    with build() as engine:
        calls: dict[str, Callable[[], object]] = {
            "fp32": lambda: [floor_outputs(session, feeds) for feeds in batches] and None,
            "extractor": lambda: [extract(images) for images in pictures] and None,
            "simulation": lambda: [run_feeds(engine, feeds) for feeds in batches] and None,
            "build": lambda: build().close(),
            "map": lambda: evaluate(1, requested),
        }
        return timed_in_turns(calls, options.repeats)


def floor_session(bench: Bench, threads: int) -> onnxruntime.InferenceSession:
    """The FP32 graph as ONNX Runtime runs it for anybody."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    model = bench.assembled.graph.model.SerializeToString()
    return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])


def floor_outputs(session: onnxruntime.InferenceSession, feeds: list[Feed]) -> dict[str, np.ndarray]:
    """Outputs by name of one batch."""
    names = [output.name for output in session.get_outputs()]
    parts = [session.run(None, dict(feed)) for feed in feeds]
    return {
        name: np.concatenate(values) for name, values in zip(names, zip(*parts, strict=True), strict=True)
    }


def described(times: dict[str, list[Seconds]], images: int) -> str:
    """Columns of one line."""
    best = {name: min(entry.cpu for entry in entries) for name, entries in times.items()}
    needed = best["simulation"] + best["extractor"]
    own = best["map"] - needed
    scale = DEFAULT_IMAGES / images
    # Building alone can measure longer than inside the map, where memory is at hand already.
    fixed = min(best["build"], max(own, 0.0))
    at_default = (fixed + (own - fixed) * scale) / (needed * scale)
    simulation = best["simulation"] / best["fp32"]
    missed = {"simulation": simulation > LARGEST_SIMULATION, "overhead": at_default > LARGEST_OVERHEAD}
    misses = ", ".join(name for name, is_missed in missed.items() if is_missed)
    middle = {name: median_cpu(entries) for name, entries in times.items()}
    return (
        f"{middle['fp32']:>7.2f} {middle['extractor']:>11.2f} {middle['simulation']:>12.2f} "
        f"{middle['build']:>7.2f} {middle['map']:>11.2f} {simulation:>7.2f}x {own / needed:>8.1%} "
        f"{at_default:>7.1%} {best['map'] / (best['fp32'] + best['extractor']):>8.2f}x "
        f"{median_wall(times['map']):>7.2f}  {'misses ' + misses if misses else 'ok'}"
    )


def parsed_options() -> argparse.Namespace:
    """Command line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generators", nargs="+", choices=list(BUILDERS), default=list(IMAGES))
    parser.add_argument("--placements", nargs="+", choices=PLACEMENTS, default=["residual", "dense"])
    parser.add_argument("--maps", nargs="+", choices=MAPS, default=list(MAPS))
    parser.add_argument("--images", type=int, help="for every generator; by default a few seconds' worth")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()

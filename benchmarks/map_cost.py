"""What scoring one map costs: against one FP32 forward of the generator and one forward of the extractor.

python benchmarks/map_cost.py [--generators student teacher srresnet style] [--images N] [--repeats 3]
    [--placements inputs residual dense] [--batch-size 8] [--threads 1]

The floor is ONNX Runtime at its default optimisation over the same batches, and the extractor once.
"simulation" is the map's engine alone; "whole map" is everything a sweep does for it: lowering, building,
running, uint8 pictures, features, all metrics with their errors, and evidence written to disk.
CPU seconds of one thread unless a column says wall; ratios are medians over interleaved turns.
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
    median_ratio,
    median_wall,
    print_machine,
    timed_in_turns,
)
from workload import Bench, benchmark_maps, opened

from qsens.feeds import Feed, InputCache, run_feeds
from qsens.graph.lower import lower_graph
from qsens.pictures import picture_output, pictures_from_values
from qsens.precision import Precision, PrecisionMap
from qsens.spec import PLACEMENTS, SweepSpec

IMAGES = {"student": 256, "teacher": 48, "srresnet": 32, "style": 64}
LARGEST_SIMULATION = 1.35
LARGEST_OVERHEAD = 0.15


def main() -> None:
    """Print one line for each generator, placement and map."""
    options = parsed_options()
    limit_math_threads(options.threads)
    print_machine("onnx", "scipy")
    print(f"batch {options.batch_size}, {options.threads} threads, medians of {options.repeats} turns;")
    print(f"targets: simulation <= {LARGEST_SIMULATION}x FP32, overhead <= {LARGEST_OVERHEAD:.0%}\n")
    header = (
        "generator",
        "images",
        "placement",
        "map",
        "FP32 s",
        "extractor s",
        "simulation s",
        "whole map s",
    )
    more = ("sim/FP32", "overhead", "map/floor", "wall s", "verdict")
    print("{:<9} {:>6} {:<9} {:<5} {:>7} {:>11} {:>12} {:>11}".format(*header), end=" ")
    print("{:>8} {:>8} {:>9} {:>7}  {}".format(*more), flush=True)
    for name in options.generators:
        for placement in options.placements:
            print_rows(name, placement, options)


def print_rows(name: str, placement: str, options: argparse.Namespace) -> None:
    """Measure one generator at one placement."""
    images = options.images or IMAGES[name]
    spec = SweepSpec(placement=placement, batch_size=options.batch_size, threads=options.threads)
    with opened(BUILDERS[name](), images=images, spec=spec) as bench:
        for row, requested in benchmark_maps(bench.layers).items():
            # Placement changes INT8 layers only; the reverse map costs what the mixed one does.
            if row == "reverse" or (row == "fp16" and placement != options.placements[0]):
                continue
            times = timed_map(bench, requested, options)
            print(f"{name:<9} {images:>6} {placement:<9} {row:<5} {described(times)}", flush=True)


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
    with work.backend.build(lower_graph(work.plan, requested, work.ranges, work.options)) as engine:
        calls: dict[str, Callable[[], object]] = {
            "fp32": lambda: [floor_outputs(session, feeds) for feeds in batches] and None,
            "extractor": lambda: [extract(images) for images in pictures] and None,
            "simulation": lambda: [run_feeds(engine, feeds) for feeds in batches] and None,
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


def described(times: dict[str, list[Seconds]]) -> str:
    """Columns of one line."""
    floor = [
        Seconds(a.cpu + b.cpu, a.wall + b.wall)
        for a, b in zip(times["fp32"], times["extractor"], strict=True)
    ]
    own = [
        Seconds(a.cpu + b.cpu, a.wall + b.wall)
        for a, b in zip(times["simulation"], times["extractor"], strict=True)
    ]
    simulation = median_ratio(times["simulation"], times["fp32"])
    overhead = median_ratio(times["map"], own) - 1
    misses = [
        text
        for text, is_missed in (
            ("simulation", simulation > LARGEST_SIMULATION),
            ("overhead", overhead > LARGEST_OVERHEAD),
        )
        if is_missed
    ]
    return (
        f"{median_cpu(times['fp32']):>7.2f} {median_cpu(times['extractor']):>11.2f} "
        f"{median_cpu(times['simulation']):>12.2f} {median_cpu(times['map']):>11.2f} "
        f"{simulation:>7.2f}x {overhead:>8.1%} {median_ratio(times['map'], floor):>8.2f}x "
        f"{median_wall(times['map']):>7.2f}  {'misses ' + ', '.join(misses) if misses else 'ok'}"
    )


def parsed_options() -> argparse.Namespace:
    """Command line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generators", nargs="+", choices=list(BUILDERS), default=list(IMAGES))
    parser.add_argument(
        "--placements", nargs="+", choices=PLACEMENTS, default=["residual", "inputs", "dense"]
    )
    parser.add_argument("--images", type=int, help="for every generator; by default a few seconds' worth")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""From a precision map to an engine that is ready to run: lowering and building, for the 36 M teacher.

python benchmarks/engine_build.py [--backends onnxruntime onnxruntime-optimised openvino tensorrt-rtx]
    [--maps 6] [--threads 1]

Each turn takes another boundary, INT8 before it and FP16 behind, as a sweep does: the first map of a backend
also pays for what all share (quantized weights, the runtime's start) and stands in a column of its own. A
built engine has its kernels chosen, for batch 1 where that matters, and its audit read. Seconds by the
clock are medians over the maps after the first; CPU seconds, of all threads, tell how much of them other
work on the machine took. Targets are for the clock. A backend that cannot be used here is left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from generators import BUILDERS
from machine import Seconds, limit_math_threads, median_cpu, median_wall, print_machine, timed
from workload import opened

from qsens.core.errors import PluginError
from qsens.core.interfaces import Backend
from qsens.core.layer import Layer, map_of
from qsens.core.plugins import create, option_names
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import SweepSpec
from qsens.engines.lowering.lower import lower_graph
from qsens.engines.lowering.lowered_graph import LoweredGraph
from qsens.run.stages import Workload

BACKENDS = {
    "onnxruntime": ("onnxruntime", {}),
    "onnxruntime-optimised": ("onnxruntime", {"optimised": True}),
    "openvino": ("openvino", {}),
    "tensorrt-rtx": ("tensorrt-rtx", {}),
}
TARGETS_S = {"onnxruntime": 1.0, "onnxruntime-optimised": 1.0, "openvino": 1.0, "tensorrt-rtx": 0.5}


def main() -> None:
    """Print one line for each backend."""
    options = parsed_options()
    limit_math_threads(options.threads)
    print_machine("onnx")
    print(f"teacher, {options.maps} maps after the first, {options.threads} threads\n")
    header = ("backend", "first", "lower", "build", "together", "fastest", "CPU", "target", "verdict")
    print("{:<22} {:>7} {:>7} {:>7} {:>8} {:>8} {:>7} {:>7}  {}".format(*header), flush=True)
    spec = SweepSpec(metrics=("psnr",), calibration_samples=4, threads=options.threads)
    with opened(BUILDERS["teacher"](), images=2, spec=spec) as bench:
        boundaries = boundary_maps(bench.layers, options.maps + 1)
        for name in options.backends:
            print_row(name, bench.workload, boundaries, options.threads)


def boundary_maps(layers: Sequence[Layer], count: int) -> list[PrecisionMap]:
    """Boundaries from the middle of the layers in both directions, no two alike."""
    middle = len(layers) // 2
    places = [middle + (index + 1) // 2 * (-1 if index % 2 else 1) * 3 for index in range(count)]
    return [
        map_of(
            layers,
            {layer.name: Precision.INT8 if layer.index < place else Precision.FP16 for layer in layers},
        )
        for place in places
    ]


def print_row(name: str, work: Workload, boundaries: Sequence[PrecisionMap], threads: int) -> None:
    """Measure one backend; what one turn leaves to the next is the plan's memory of quantized weights."""
    plugin, settings = BACKENDS[name]
    work.plan.memo.clear()
    try:
        more = {"threads": threads} if "threads" in option_names("backends", plugin) else {}
        backend = create("backends", plugin, {**settings, **more})
    except PluginError as error:
        print(f"{name:<22} left out: {error.message}")
        return
    lowerings, buildings = [], []
    for wanted in boundaries:
        lowering, building = turn_times(backend, work, wanted)
        lowerings.append(lowering)
        buildings.append(building)
    whole = [
        Seconds(one.cpu + other.cpu, one.wall + other.wall)
        for one, other in zip(lowerings, buildings, strict=True)
    ]
    later, target = whole[1:], TARGETS_S[name]
    fastest = min(entry.wall for entry in later)
    print(
        f"{name:<22} {whole[0].wall:>7.2f} {median_wall(lowerings[1:]):>7.2f} "
        f"{median_wall(buildings[1:]):>7.2f} {median_wall(later):>8.2f} {fastest:>8.2f} "
        f"{median_cpu(later):>7.2f} {target:>7.1f}  {verdict(median_wall(later), fastest, target)}",
        flush=True,
    )


def turn_times(backend: Backend, work: Workload, wanted: PrecisionMap) -> tuple[Seconds, Seconds]:
    """Times of lowering one map and of building its engine."""
    made: list[LoweredGraph] = []
    lowering = timed(
        lambda: made.append(lower_graph(work.plan, wanted, work.ranges, work.options, backend.flavour))
    )
    engines = []

    def build() -> None:
        engine = backend.build(made[0])
        engines.append(engine)
        assert engine.applied is not None, "an engine says what it applied"

    building = timed(build)
    for engine in engines:
        engine.close()
    return lowering, building


def verdict(median_s: float, fastest_s: float, target_s: float) -> str:
    """Whether the target is reached."""
    if median_s <= target_s:
        return "reached"
    return "reached by the fastest only" if fastest_s <= target_s else "missed"


def parsed_options() -> argparse.Namespace:
    """Command line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", choices=list(BACKENDS), default=list(BACKENDS))
    parser.add_argument("--maps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()

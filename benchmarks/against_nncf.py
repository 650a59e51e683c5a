"""NNCF's accuracy control and qsens on the same work: samples, real images, score, budget and grid.

python benchmarks/against_nncf.py [--generators talker style] [--grids unsigned signed] [--keep FOLDER]

Needs `pip install nncf` beside the extra `openvino`. Generators and samples are those of the demos; the
score is FID to the demo's real images, to stay within 5 % of FP32's. Grid `unsigned` is that of CPUs: codes 0
to 255 for what cannot be negative, as NNCF chooses by itself; `signed` is TensorRT's, which NNCF is made to
use. qsens runs as `--strategy guided --repair auto --placement residual`, for OpenVINO or for no target.

"INT8 MACs" are counted by qsens' layers for both. "OpenVINO" is the FID of the finished engine's pictures,
"exact" that in qsens' integer arithmetic, the one its search went by; of NNCF's map it is that of the same
layers in INT8 with qsens' repair. "full" and "partial" are evaluations on all samples and on some (300 for
NNCF, a screen of 32 for qsens), FP32 among the full ones; "frames" are the samples scored by both.
Seconds are everything from the FP32 graph to the chosen map: features of the real images, calibration, repair
and search, and for qsens the guard and the intervals, which NNCF does not have. One processor.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from machine import limit_math_threads, print_machine
from repair import demo_spec, silent

from qsens.api import choose_within_budget, score_maps
from qsens.calibration.batches import InputCache
from qsens.core.layer import Layer, macs_share
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import SweepSpec
from qsens.core.trial import Outcome, Study, Trial
from qsens.engines.openvino import OpenVinoBackend
from qsens.repair.repair import kept_stages
from qsens.run.calibrated_graph import calibrated_graph
from qsens.run.evaluate import Evaluator, calibrated_workload
from qsens.run.folder import RunFolder
from qsens.run.open import OpenedSweep, open_sweep
from qsens.run.target import fitted_to_target

try:
    import openvino
    from nncf_control import Controlled, PictureScore, Work, accuracy_controlled, run
except ImportError as error:
    sys.exit(f"{error}: install NNCF beside qsens: pip install nncf '.[openvino]'")

SHARE = 0.05
TARGETS = {"unsigned": "openvino", "signed": None}
HEADER = ("generator", "grid", "tool", "INT8 MACs", "OpenVINO", "exact", "full", "partial", "frames")
LINE = "{:<9} {:<8} {:<6} {:>9} {:>9} {:>7} {:>5} {:>7} {:>7} {:>6} {:>7}  {}"


@dataclass(frozen=True)
class Row:
    """One tool on one grid; scores are FID."""

    tool: str
    precision_map: PrecisionMap
    openvino: float
    exact: float
    work: Work


def main() -> None:
    """Print both tools, generator by generator and grid by grid."""
    options = parsed_options()
    hold_to_one_processor()
    limit_math_threads(1)
    print_machine("nncf", "openvino")
    print(LINE.format(*HEADER, "CPU s", "wall s", "in float"), flush=True)
    with tempfile.TemporaryDirectory(prefix="qsens-nncf-") as temporary:
        keep = options.keep or Path(temporary)
        for name in options.generators:
            for grid in options.grids:
                spec = replace(demo_spec(name, keep / "sets"), placement="residual", repair="auto")
                compare(replace(spec, target=TARGETS[grid]), keep / f"{name}-{grid}", name, grid)


def hold_to_one_processor() -> None:
    """NNCF compiles its models for all processors that it may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def compare(spec: SweepSpec, out: Path, name: str, grid: str) -> None:
    """Print the two rows of a generator on a grid, and what qsens' repair took of its time."""
    opened = open_sweep(spec)
    controlled = accuracy_controlled(opened, is_signed=grid == "signed", share=SHARE)
    study, chosen, work = searched(opened, out)
    theirs = map_with_int8(opened.graph.layers, controlled)
    with RunFolder.open(out, opened.spec) as folder:
        opened = fitted_to_target(opened, folder, silent)
        exact = exact_score(opened, folder, study)
        rows = [
            Row("NNCF", theirs, nncf_score(controlled, opened), exact(theirs), controlled.work),
            Row(
                "qsens",
                chosen.requested,
                shipped_score(opened, folder, chosen),
                exact(chosen.requested),
                work,
            ),
        ]
        for row in rows:
            print_row(row, opened.graph.layers, name, grid)
        for stage in kept_stages(folder.repair_path):
            print(f"{'':25} {stage.text()}", flush=True)


def searched(opened: OpenedSweep, out: Path) -> tuple[Study, Trial, Work]:
    """Search with qsens: all trials, the map it chooses, and what it cost."""
    cpu, wall = time.process_time(), time.perf_counter()
    study = score_maps(opened, out)
    chosen = choose_within_budget(study, opened.spec, out)
    assert chosen is not None, "the spec has a budget"
    work = Work(cpu_s=time.process_time() - cpu, wall_s=time.perf_counter() - wall)
    outcomes = [trial.outcome for trial in study.trials]
    work.full, work.partial = outcomes.count(Outcome.SCORED), outcomes.count(Outcome.SCREENED)
    work.frames = work.full * len(opened.evaluation) + work.partial * opened.spec.screen_samples
    return study, chosen.trial, work


def map_with_int8(layers: tuple[Layer, ...], controlled: Controlled) -> PrecisionMap:
    """The map of NNCF's model: what it left in float is FP16 here, where that is as good as FP32."""
    return PrecisionMap.over(
        {
            layer.name: Precision.INT8 if layer.name in controlled.in_int8 else Precision.FP16
            for layer in layers
        }
    )


def exact_score(opened: OpenedSweep, folder: RunFolder, study: Study) -> Callable[[PrecisionMap], float]:
    """FID of maps in the run's own arithmetic."""
    work = replace(calibrated_workload(opened, folder, silent), expected=())
    evaluate = Evaluator(work, evidence=folder.evidence, samples=folder.samples, fp32=study.trials[0])

    def score(requested: PrecisionMap) -> float:
        return evaluate(len(study.trials), requested).scores[0].value

    return score


def nncf_score(controlled: Controlled, opened: OpenedSweep) -> float:
    """FID of NNCF's finished model in OpenVINO."""
    score = PictureScore.of(opened)
    compiled = openvino.compile_model(controlled.model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    feeds = InputCache(opened.evaluation, opened.graph, 1).singly()
    return score([run(compiled, feed, score.picture) for feed in feeds])


def shipped_score(opened: OpenedSweep, folder: RunFolder, chosen: Trial) -> float:
    """FID of the chosen map in OpenVINO, as its bundle holds it."""
    score = PictureScore.of(opened)
    lowered = calibrated_graph(opened, folder, silent).lower(chosen.requested, OpenVinoBackend.flavour)
    feeds = InputCache(opened.evaluation, opened.graph, 1).singly()
    with OpenVinoBackend(threads=1).build(lowered) as engine:
        return score([engine.run(feed)[score.picture] for feed in feeds])


def print_row(row: Row, layers: tuple[Layer, ...], name: str, grid: str) -> None:
    """One line of the table."""
    share = macs_share(layers, row.precision_map, Precision.INT8)
    floats = [layer.name for layer in layers if row.precision_map[layer.name] is not Precision.INT8]
    work = row.work
    counts = (work.full, work.partial, work.frames, f"{work.cpu_s:.0f}", f"{work.wall_s:.0f}")
    scores = (f"{share:.1%}", f"{row.openvino:.2f}", f"{row.exact:.2f}")
    print(LINE.format(name, grid, row.tool, *scores, *counts, ", ".join(floats) or "-"), flush=True)


def parsed_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--generators", nargs="+", default=["talker", "style"], choices=["talker", "style"])
    parser.add_argument("--grids", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--keep", type=Path, help="keep the run folders in this one")
    return parser.parse_args()


if __name__ == "__main__":
    main()

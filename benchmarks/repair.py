"""What repairs buy: INT8 everywhere, the paper's MIX and the share within 5 %, stage by stage.

python benchmarks/repair.py [--generators talker style] [--placements dense residual]
    [--recipes none ranges auto] [--target openvino] [--search] [--keep FOLDER]

Each generator is that of a demo, with the demo's samples and reference. Without a target INT8 is signed, as
TensorRT's; `openvino` and `onnxruntime` bring their own grid, 0 to 255 for what cannot be negative.
"everywhere" is INT8 in every layer, "but the output block" the paper's MIX (Kim et al. 2023): INT8 everywhere
else. With `--search` strategy `guided` looks for the map with most INT8 within 5 % of FP32's headline score:
its share of the multiply-accumulates, and how many maps it scored on all samples and screened. Repairs see
calibration samples only. One thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from machine import limit_math_threads, print_machine

from qsens.api import choose_within_budget, score_maps
from qsens.core.errors import QsensError
from qsens.core.layer import Layer, macs_share, uniform_map
from qsens.core.plugins import create
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import PLACEMENTS, SweepSpec, spec_from_values
from qsens.core.trial import Outcome
from qsens.repair.repair import kept_stages
from qsens.run.evaluate import Evaluator, calibrated_workload
from qsens.run.folder import RunFolder
from qsens.run.open import open_sweep
from qsens.run.target import fitted_to_target

METRICS = ("fid", "fid-fp32", "psnr")
HEADER = ("generator", "placement", "repair", "map", "INT8 MACs", "scores")


def main() -> None:
    """Print one line for each generator, placement, recipe and map."""
    options = parsed_options()
    limit_math_threads(1)
    print_machine()
    print("{:<9} {:<9} {:<7} {:<22} {:>9}  {}".format(*HEADER), flush=True)
    with tempfile.TemporaryDirectory(prefix="qsens-repair-") as temporary:
        keep = options.keep or Path(temporary)
        for name in options.generators:
            for placement in options.placements:
                for recipe in options.recipes:
                    spec = demo_spec(name, keep / "sets")
                    spec = replace(spec, placement=placement, repair=recipe, target=options.target)
                    out = keep / f"{name}-{placement}-{recipe}-{options.target}"
                    report(spec, out, name)
                    if options.search:
                        search(spec, Path(f"{out}-search"), name)


def demo_spec(name: str, sets: Path) -> SweepSpec:
    """The demo's spec, to be searched within 5 %."""
    values = dict(create("demos", name, {}).spec_values(sets))
    values.pop("strategy_options", None)
    values |= {"metrics": list(METRICS), "threads": 1, "strategy": "guided", "budget": "5%"}
    return spec_from_values(values, "benchmark")


def report(spec: SweepSpec, out: Path, name: str) -> None:
    """Print the scores of two maps, and the stages of the repair."""
    opened = open_sweep(spec)
    with RunFolder.open(out, opened.spec) as folder:
        opened = fitted_to_target(opened, folder, silent)
        start = time.perf_counter()
        work = calibrated_workload(opened, folder, silent)
        took_s = time.perf_counter() - start
        evaluator = Evaluator(
            replace(work, expected=()), evidence=folder.evidence, samples=folder.samples, fp32=None
        )
        for label, requested in maps_of(opened.graph.layers).items():
            trial = evaluator(1, requested)
            scores = ", ".join(f"{score.metric} {score.value:.2f}" for score in trial.scores)
            print_row(spec, name, label, macs_share(opened.graph.layers, requested, Precision.INT8), scores)
        for stage in kept_stages(folder.repair_path):
            print(f"{'':28} {stage.text()}", flush=True)
        print(f"{'':28} calibration and repair together: {took_s:.0f} s", flush=True)


def search(spec: SweepSpec, out: Path, name: str) -> None:
    """Print the map that a search finds."""
    opened = open_sweep(spec)
    study = score_maps(opened, out)
    counts = {outcome: sum(trial.outcome is outcome for trial in study.trials) for outcome in Outcome}
    counted = f"{counts[Outcome.SCORED]} scored, {counts[Outcome.SCREENED]} screened"
    try:
        chosen = choose_within_budget(study, opened.spec, out)
    except QsensError as error:
        print_row(spec, name, "within 5 %", 0.0, f"{error.message}; {counted}")
        return
    assert chosen is not None, "the spec has a budget"
    scores = ", ".join(f"{score.metric} {score.value:.2f}" for score in chosen.trial.scores)
    share = macs_share(opened.graph.layers, chosen.trial.requested, Precision.INT8)
    print_row(spec, name, "within 5 %", share, f"{scores}; {counted}")


def maps_of(layers: Sequence[Layer]) -> dict[str, PrecisionMap]:
    """INT8 in every layer, and in every layer but those of the last block."""
    everywhere = uniform_map(layers, Precision.INT8)
    mixed = {
        layer.name: Precision.FP16 if layer.block == layers[-1].block else everywhere[layer.name]
        for layer in layers
    }
    return {"everywhere": everywhere, "but the output block": PrecisionMap.over(mixed)}


def print_row(spec: SweepSpec, name: str, label: str, share: float, scores: str) -> None:
    """One line of the table."""
    line = "{:<9} {:<9} {:<7} {:<22} {:>8.1%}  {}"
    print(line.format(name, spec.placement, spec.repair, label, share, scores), flush=True)


def silent(done: int, total: int, label: str) -> None:
    """A `Progress` that says nothing."""


def parsed_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--generators", nargs="+", default=["talker"], choices=["talker", "style"])
    parser.add_argument("--placements", nargs="+", default=["dense", "residual"], choices=PLACEMENTS)
    parser.add_argument("--recipes", nargs="+", default=["none", "ranges", "auto"])
    parser.add_argument("--target", help="sweep for this target, with its grid")
    parser.add_argument("--search", action="store_true", help="look for the map within 5 %%")
    parser.add_argument("--keep", type=Path, help="keep the run folders in this one")
    return parser.parse_args()


if __name__ == "__main__":
    main()

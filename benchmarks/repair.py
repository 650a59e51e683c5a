"""What repairs buy, stage by stage and beside published ones: INT8 everywhere, MIX, and within a budget.

python benchmarks/repair.py [--generators talker style superresolution] [--placements residual dense]
    [--weights per-channel per-tensor] [--recipes none ranges weights auto bias-correction ...]
    [--budgets 5%] [--target openvino] [--keep FOLDER]

`talker` and `style` are those of the demos with the demos' samples and real images, `superresolution` a
small residual network that is trained here on the photographs of `style`. Recipes are those of qsens, or
published schemes (`repair_schemes.py`) in the same integer arithmetic: `bias-correction`, `mse-weights`,
`smoothquant`. Without a target INT8 is signed, as TensorRT's; `openvino` and `onnxruntime` bring their own
grid, 0 to 255 for what cannot be negative.

"everywhere" is INT8 in every layer, "MIX" the paper's (Kim et al. 2023): INT8 everywhere but in the output
block. For each of `--budgets` strategy `guided` looks for the map with most INT8 within it: its share of the
multiply-accumulates, and how many maps were scored on all samples and screened, those above included. "CPU s"
and "MiB" are what calibration and repair take, the latter at their peak, the process before them included.
Repairs see calibration samples only. One thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from machine import limit_math_threads, peak_mib, print_machine, reset_peak
from repair_schemes import SCHEMES
from search_networks import NETWORKS

from qsens.api import choose_within_budget
from qsens.cli.demo import CALIBRATION_SAMPLES, EVALUATION_SAMPLES, write_demo_sets
from qsens.core.errors import QsensError
from qsens.core.layer import Layer, macs_share, uniform_map
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import PLACEMENTS, WEIGHT_SCALES, SweepSpec, spec_from_values
from qsens.core.trial import Outcome, Trial
from qsens.repair.repair import kept_stages
from qsens.run.calibrated_graph import measured_graph
from qsens.run.evaluate import Evaluator, calibrated_workload
from qsens.run.folder import RunFolder
from qsens.run.loop import try_maps_here
from qsens.run.open import OpenedSweep, open_sweep
from qsens.run.open_plugins import open_strategy
from qsens.run.stages import Workload
from qsens.run.target import fitted_to_target

METRICS = ("fid", "fid-fp32", "psnr")
RECIPES = ("none", "ranges", "weights", "auto", *SCHEMES)
LINE = "{:<15} {:<8} {:<11} {:<15} {:<10} {:>9} {:>8} {:>9} {:>6}  {}"
HEADER = ("generator", "placed", "weights", "repair", "map", "INT8 MACs", "fid", "fid-fp32", "PSNR", "")


@dataclass(frozen=True, eq=False)
class Case:
    """One repair of a generator, ready to score maps."""

    name: str
    recipe: str
    opened: OpenedSweep
    folder: RunFolder
    evaluate: Evaluator

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of the generator."""
        return self.opened.graph.layers


def main() -> None:
    """Print the lines of each generator, placement, granularity of weight scales, and recipe."""
    options = parsed_options()
    limit_math_threads(1)
    print_machine()
    print(LINE.format(*HEADER), flush=True)
    with tempfile.TemporaryDirectory(prefix="qsens-repair-") as temporary:
        keep = options.keep or Path(temporary)
        for spec, name, recipe in cases(options, keep / "sets"):
            out = keep / f"{name}-{spec.placement}-{spec.weight_scales}-{recipe}-{spec.target}"
            with calibrated_case(spec, out, name, recipe) as case:
                report(case, options.budgets)


def cases(options: argparse.Namespace, sets: Path) -> Iterator[tuple[SweepSpec, str, str]]:
    """Every spec that is asked for, with its generator and its recipe."""
    for name in options.generators:
        shared = replace(demo_spec(name, sets), target=options.target)
        for placement in options.placements:
            for weights in options.weights:
                for recipe in options.recipes:
                    own = "none" if recipe in SCHEMES else recipe
                    yield (
                        replace(shared, placement=placement, weight_scales=weights, repair=own),
                        name,
                        recipe,
                    )


def demo_spec(name: str, sets: Path) -> SweepSpec:
    """The spec of a generator with its samples and real images, to be searched within 5 %."""
    inputs, _ = write_demo_sets(sets)
    photographs = {
        "reference": str(inputs),
        "calibration_samples": CALIBRATION_SAMPLES,
        "evaluation_samples": EVALUATION_SAMPLES,
    }
    values = {**photographs, **NETWORKS[name](sets)}
    values.pop("strategy_options", None)
    values |= {"metrics": list(METRICS), "threads": 1, "strategy": "guided", "budget": "5%"}
    return spec_from_values(values, "benchmark")


@contextmanager
def calibrated_case(spec: SweepSpec, out: Path, name: str, recipe: str) -> Iterator[Case]:
    """Calibrate and repair, and print what that cost and what the stages say."""
    opened = open_sweep(spec)
    with RunFolder.open(out, opened.spec) as folder:
        opened = fitted_to_target(opened, folder, silent)
        folder.write_layers(opened.graph.layers)
        folder.write_other_work(opened.graph.other_work)
        reset_peak()
        start = time.process_time()
        work = repaired_workload(opened, folder, recipe)
        took_s, mib = time.process_time() - start, peak_mib()
        print(f"{name}, {spec.placement}, {recipe}: {took_s:.0f} CPU s, {mib:.0f} MiB", flush=True)
        for stage in kept_stages(folder.repair_path) if recipe not in SCHEMES else ():
            print(f"    {stage.text()}", flush=True)
        fp32 = next(iter(folder.journal.trials), None)
        evaluate = Evaluator(work, evidence=folder.evidence, samples=folder.samples, fp32=fp32)
        yield Case(name, recipe, opened, folder, evaluate)


def repaired_workload(opened: OpenedSweep, folder: RunFolder, recipe: str) -> Workload:
    """What maps are scored with: calibrated, and repaired by the recipe or the published scheme."""
    work = replace(calibrated_workload(opened, folder, silent), expected=())
    if recipe not in SCHEMES:
        return work
    made = SCHEMES[recipe](measured_graph(opened, folder, silent), opened)
    return replace(work, plan=made.plan, ranges=made.ranges)


def report(case: Case, budgets: Sequence[str]) -> None:
    """Print the scores of two maps, and of the map that a search finds within each budget."""
    case.evaluate(0, PrecisionMap(Precision.FP32))
    for label, requested in maps_of(case.layers).items():
        print_row(case, label, case.evaluate(1, requested))
    for budget in budgets:
        search(case, budget)


def search(case: Case, budget: str) -> None:
    """Print the map that a search finds."""
    spec = replace(case.opened.spec, budget=budget)
    study = try_maps_here(
        case.layers,
        strategy=open_strategy(spec),
        evaluate=case.evaluate,
        journal=case.folder.journal,
        progress=silent,
    )
    outcomes = [trial.outcome for trial in study.trials]
    counted = f"{outcomes.count(Outcome.SCORED)} scored, {outcomes.count(Outcome.SCREENED)} screened"
    try:
        chosen = choose_within_budget(study, spec, case.folder.path)
    except QsensError as error:
        print(f"    within {budget}: {error.message}; {counted}", flush=True)
        return
    assert chosen is not None, "the spec has a budget"
    print_row(case, budget, chosen.trial, counted)


def maps_of(layers: Sequence[Layer]) -> dict[str, PrecisionMap]:
    """INT8 in every layer, and in every layer but those of the last block."""
    everywhere = uniform_map(layers, Precision.INT8)
    mixed = {
        layer.name: Precision.FP16 if layer.block == layers[-1].block else everywhere[layer.name]
        for layer in layers
    }
    return {"everywhere": everywhere, "MIX": PrecisionMap.over(mixed)}


def print_row(case: Case, label: str, trial: Trial, counted: str = "") -> None:
    """One line of the table."""
    spec = case.opened.spec
    share = macs_share(case.layers, trial.requested, Precision.INT8)
    scores = [f"{score.value:.2f}" for score in trial.scores]
    cells = (case.name, spec.placement, spec.weight_scales, case.recipe, label, f"{share:.1%}", *scores)
    print(LINE.format(*cells, counted).rstrip(), flush=True)


def silent(done: int, total: int, label: str) -> None:
    """A `Progress` that says nothing."""


def parsed_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--generators", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--placements", nargs="+", default=["residual"], choices=PLACEMENTS)
    parser.add_argument("--weights", nargs="+", default=list(WEIGHT_SCALES), choices=WEIGHT_SCALES)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--budgets", nargs="*", default=["5%"], help="search within each of these")
    parser.add_argument("--target", help="sweep for this target, with its grid")
    parser.add_argument("--keep", type=Path, help="keep the run folders in this one")
    return parser.parse_args()


if __name__ == "__main__":
    main()

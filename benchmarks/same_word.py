"""One budget word on several networks: what `jpeg:95` allows a talker, style transfer and super-resolution.

python benchmarks/same_word.py [--networks talker style superresolution] [--budget jpeg:95] [--images 96]
    [--metrics fid-fp32 psnr flip] [--keep FOLDER]

For each network strategy `guided` looks for the map with most INT8 within the budget, on the score that a
run without real images goes by. Rows: INT8 everywhere, the chosen map, FP32's own pictures after familiar
alterations. Placement and target are the demos', repair the default. ± as in `yardsticks.py`. Below them,
by each score, the alterations between which it puts the two maps. One thread.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from machine import limit_math_threads, print_machine
from search_networks import NETWORKS
from visible import print_scores

from qsens.api import choose_within_budget, score_maps
from qsens.core.alterations import title_of
from qsens.core.errors import BudgetError
from qsens.core.maps import int8_share
from qsens.core.precision import Precision
from qsens.core.spec import SweepSpec, spec_from_values
from qsens.core.trial import Study, Trial
from qsens.run.open import open_sweep
from qsens.selection.yardsticks import ladder_of, place_of

METRICS = ("fid-fp32", "psnr", "flip")
ALTERATIONS = ("jpeg:98", "jpeg:95", "jpeg:90", "jpeg:75", "jpeg:50", "noise:1")
LEFT_OUT = ("reference", "strategy_options", "strategy", "budget")


def main() -> None:
    """Print the rows of each network."""
    options = parsed_options()
    limit_math_threads(1)
    print_machine()
    with tempfile.TemporaryDirectory(prefix="qsens-word-") as temporary:
        keep = options.keep or Path(temporary)
        for name in options.networks:
            spec = network_spec(name, keep, options)
            study = score_maps(open_sweep(spec), keep / name)
            print_network(name, study, chosen_map(study, spec, keep / name))


def network_spec(name: str, keep: Path, options: argparse.Namespace) -> SweepSpec:
    """The sweep of one network; its files are made in `keep`, once."""
    values = {key: value for key, value in NETWORKS[name](keep / "files").items() if key not in LEFT_OUT}
    values |= {"metrics": options.metrics, "extractor": "lite0", "threads": 1, "strategy": "guided"}
    values |= {"calibration_samples": 32, "evaluation_samples": options.images}
    values |= {"budget": options.budget, "yardsticks": list(dict.fromkeys((options.budget, *ALTERATIONS)))}
    return spec_from_values(values, "benchmark")


def chosen_map(study: Study, spec: SweepSpec, out: Path) -> Trial | None:
    """The map with most INT8 within the budget, or `None` where none keeps it, which is said."""
    try:
        return choose_within_budget(study, spec, out).trial
    except BudgetError as error:
        print(error.message)
        return None


def print_network(name: str, study: Study, chosen: Trial | None) -> None:
    """The table of one network, and where each score puts its maps."""
    print(f"{name:<42}" + "".join(f"{metric:>20}" for metric in study.metrics), flush=True)
    maps = {"INT8 everywhere": study.anchors[Precision.INT8]}
    if chosen is not None:
        kept = sum(chosen.requested[layer.name] is not Precision.INT8 for layer in study.layers)
        share = f"{100 * int8_share(study, chosen):.1f}%"
        maps[f"chosen, {share}, {kept} of {len(study.layers)} layers kept"] = chosen
    for label, trial in maps.items():
        print_scores(label, trial, study)
    for entry in study.yardsticks:
        print_scores(title_of(entry.alteration), entry, study)
    for label, trial in maps.items():
        for metric in study.metrics:
            score = trial.score(metric)
            if score is not None:
                print(f"{label} by {metric}: {place_of(score, ladder_of(study))}")


def parsed_options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--budget", default="jpeg:95")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--metrics", nargs="+", default=list(METRICS))
    parser.add_argument("--keep", type=Path, default=None)
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Strategies on trained networks with too many layers to score every map: evaluations used, INT8 found.

python benchmarks/search_large.py [--networks alike deep] [--strategies guided boundary] [--budgets 0.1 0.3]
    [--images 64] [--screen 16] [--threads 1] [--cache DIR]

`alike` is a super-resolution network of 18 layers, 15 of them of equal cost, `deep` one of 100 layers; both
are trained on the photographs of the style demo. Each sweep is a real one, in a run folder under `--cache`:
killed runs go on where they stopped. A budget is a share of the damage of INT8 everywhere (distance to the
FP32 outputs, lite0 features).

"screens" and "full" are the maps that a sweep screened and scored beside FP32, FP16 and INT8 everywhere.
"work" counts both in full scores, by images. "INT8" is the share of multiply-accumulates of the best map
found within the budget, "used" what that map uses of it. A strategy without a budget is swept once.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from machine import limit_math_threads, print_machine
from search_networks import CALIBRATION_SAMPLES, superresolution_values
from search_scores import DAMAGE

from qsens import sweep
from qsens.core.maps import anchor_trial, int8_share
from qsens.core.plugins import option_names
from qsens.core.precision import Precision
from qsens.core.trial import Outcome, Study, Trial
from qsens.search.guided.knowledge import Allowance

SIZES = {"alike": {"blocks": 7, "channels": 24}, "deep": {"blocks": 48, "channels": 16}}
# INT8 everywhere keeps to it, so that a search ends with its first three maps.
_NO_LIMIT = "fid-fp32=1000000"
_ANCHORS = 3


def scored(**values: Any) -> Study:
    """The study of a sweep."""
    return sweep(progress=False, **values).study


def main() -> None:
    """Print one table for each network."""
    options = parsed_options()
    limit_math_threads(options.threads)
    print_machine("onnx", "scipy", "torch")
    with tempfile.TemporaryDirectory(prefix="qsens-benchmark-") as name:
        cache = (options.cache or Path(name)).resolve()
        for network in options.networks:
            print_table(network, cache, options)


def print_table(network: str, cache: Path, options: argparse.Namespace) -> None:
    """One line for each strategy and budget."""
    values = {**superresolution_values(cache / "files", **SIZES[network]), **shared_values(options)}
    anchors = scored(out=cache / f"{network}-anchors", strategy="guided", budget=_NO_LIMIT, **values)
    int8 = anchor_trial(anchors, Precision.INT8)
    assert int8 is not None, "it is among the first maps of any sweep"
    promised = Allowance.of(len(anchors.layers))
    print(f"\n{network}: {len(anchors.layers)} layers, INT8 everywhere: {damage_of(int8):.3g}; ", end="")
    print(f"guided may use {promised.screens} screens and {promised.scores} full scores")
    header = ("strategy", "budget", "screens", "full", "work", "INT8", "used")
    print("{:<10} {:>6} {:>8} {:>5} {:>6} {:>7} {:>6}".format(*header), flush=True)
    for strategy in options.strategies:
        takes_budget = "budget" in option_names("strategies", strategy)
        for share in options.budgets:
            limit = share * damage_of(int8)
            if takes_budget:
                own = {"out": cache / f"{network}-{strategy}-{share:g}", "budget": f"fid-fp32={limit:.9f}"}
            else:
                own = {"out": cache / f"{network}-{strategy}"}
            study = scored(strategy=strategy, **own, **values)
            print(f"{strategy:<10} {share:>6.0%} {described(study, limit, options)}", flush=True)


def shared_values(options: argparse.Namespace) -> dict[str, Any]:
    """The options that all sweeps have in common."""
    return {
        "metrics": ["fid-fp32", "psnr"],
        "extractor": "lite0",
        "repair": "none",
        "calibration_samples": CALIBRATION_SAMPLES,
        "evaluation_samples": options.images,
        "screen_samples": options.screen,
        "threads": options.threads,
    }


def described(study: Study, limit: float, options: argparse.Namespace) -> str:
    """The columns after strategy and budget."""
    scored = [trial for trial in study.trials if trial.outcome is Outcome.SCORED]
    screens = len(study.trials) - len(scored)
    full = len(scored) - _ANCHORS
    within = [trial for trial in scored if damage_of(trial) <= limit]
    best = max(within, key=lambda trial: int8_share(study, trial))
    work = full + screens * options.screen / options.images
    return (
        f"{screens:>8} {full:>5} {work:>6.1f} {int8_share(study, best):>7.1%} {damage_of(best) / limit:>6.0%}"
    )


def damage_of(trial: Trial) -> float:
    """Distance to the FP32 outputs, in points."""
    score = trial.score(DAMAGE)
    assert score is not None, "every trial of these sweeps is scored by it"
    return score.value


def parsed_options() -> argparse.Namespace:
    """Command line options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--strategies", nargs="+", default=["guided", "boundary"])
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.1, 0.3])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--screen", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="keeps networks and runs, by default nothing is kept")
    return parser.parse_args()


if __name__ == "__main__":
    main()

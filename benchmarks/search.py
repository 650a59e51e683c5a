"""Search strategies on generators small enough to score every map: evaluations used, and what they miss.

python benchmarks/search.py [--networks planted talker style superresolution] [--strategies boundary ends ...]
    [--groups 9] [--images 48] [--subset 36] [--screen 9] [--seeds 5] [--budgets 0.1 0.3] [--cache DIR]

Layers are merged into `--groups` groups, each FP16 or INT8, so there are 2^groups maps. Every one is run
once over `--images` inputs; the scores (distance to the FP32 outputs, lite0 features) on `--seeds` random
subsets of `--subset` inputs go to `--cache`, and are only read afterwards: a strategy is then replayed, each
seed a problem of its own whose truth is known. Killed runs go on where they stopped.

A budget is a share of what INT8 everywhere does. "maps" counts what a strategy had scored, FP16 and INT8
everywhere included, FP32 not; a map screened on `--screen` of the inputs counts in proportion. "cost lost"
is the INT8 share of multiply-accumulates (percentage points) that the best map found within the budget falls
short of the best there is; "score lost" how much more damage, in shares of the budget, the best map found
has that saves as much as the best there is; "optimum" how often nothing was lost. "misjudged" counts maps
that were screened and not scored, and of these the ones that keep to the budget and save more than the best
map found. "s" is the time of that many maps at this generator's mean seconds a map.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from machine import print_machine
from search_networks import NETWORKS
from search_schemes import GreedyRevert, RankedBinarySearch
from search_scores import DAMAGE, Problem, Setting, planted_problem, scored_problem

from qsens.core.interfaces import Strategy
from qsens.core.layer import blocks_of, macs_share
from qsens.core.maps import anchor_maps
from qsens.core.plugins import create, option_names
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Request, Trial

STRATEGIES = ("boundary", "ends", "ranked-bisection", "greedy-revert", "additive", "guided")
SCHEMES = {"ranked-bisection": RankedBinarySearch, "greedy-revert": GreedyRevert}
# Shares of multiply-accumulates are sums of floats.
_SAME_SHARE = 1e-9


@dataclass(frozen=True)
class Regret:
    """What one search used and missed: maps scored, INT8 share (0 to 1), damage in shares of the budget.

    `given_up` maps were screened and not scored, `misjudged` of them were better than what was found.
    """

    maps: float
    cost: float
    score: float
    given_up: int = 0
    misjudged: int = 0

    @property
    def is_optimal(self) -> bool:
        """Whether nothing was missed."""
        return self.cost <= _SAME_SHARE


def main() -> None:
    """Print one table for each generator."""
    options = parsed_options()
    print_machine("onnx", "scipy")
    budgets = ", ".join(f"{share:.0%}" for share in options.budgets)
    inputs = f"{options.subset} of {options.images} inputs each"
    print(f"{options.seeds} seeds, {inputs}; budgets: {budgets} of INT8's damage")
    with tempfile.TemporaryDirectory(prefix="qsens-benchmark-") as name:
        cache = options.cache or Path(name)
        for network in options.networks:
            print_table(problem_of(network, cache.resolve(), options), options)


def problem_of(network: str, cache: Path, options: argparse.Namespace) -> Problem:
    """All scores of a generator, or of the planted case."""
    if network == "planted":
        return planted_problem(options.groups, options.seeds)
    setting = Setting(network, options.groups, options.images, options.subset, options.screen, options.seeds)
    return scored_problem(setting, cache, threads=options.threads)


def print_table(problem: Problem, options: argparse.Namespace) -> None:
    """One line for each strategy and budget."""
    total = len(problem.measures)
    seconds = f", {problem.seconds:.2f} s a map" if problem.seconds else ""
    int8 = [problem.measures[anchor_maps(problem.layers)[Precision.INT8]][seed] for seed in problem.seeds]
    print(f"\n{problem.name}: {len(blocks_of(problem.layers))} groups, {total} maps{seconds}; ", end="")
    distances = [measure.distance for measure in int8]
    print(f"INT8 everywhere: {min(distances):.3g} to {max(distances):.3g}")
    header = (
        "strategy",
        "budget",
        "maps",
        "most",
        "of all",
        "s",
        "cost lost",
        "worst",
        "score lost",
        "optimum",
        "misjudged",
    )
    print("{:<17} {:>6} {:>6} {:>5} {:>7} {:>6} {:>9} {:>6} {:>10} {:>8} {:>9}".format(*header))
    for name in options.strategies:
        for budget in options.budgets:
            found = [searched(name, problem, seed, budget) for seed in problem.seeds]
            print(f"{name:<17} {budget:>6.0%} {described(found, problem)}", flush=True)


def searched(name: str, problem: Problem, seed: int, budget: float) -> Regret:
    """Run one strategy on one seed, and compare with the best there is."""
    int8 = problem.trial(0, anchor_maps(problem.layers)[Precision.INT8], seed)
    limit = budget * damage_of(int8)
    trials = replayed(strategy_named(name, limit), problem, seed)
    return regret_of(problem, seed, trials, limit)


def strategy_named(name: str, limit: float) -> Strategy:
    """A reference scheme, or a plug-in, which goes by block and is told the budget if it takes one."""
    if name in SCHEMES:
        return SCHEMES[name](budget=limit, metric=DAMAGE)
    offered = {"by": "block", "budget": f"{limit:.9f}"}
    known = option_names("strategies", name)
    strategy: Strategy = create("strategies", name, {key: offered[key] for key in offered if key in known})
    return strategy


def replayed(strategy: Strategy, problem: Problem, seed: int) -> list[Trial]:
    """Every trial of a sweep with this strategy, the anchors first."""
    trials: list[Trial] = []
    proposed: Sequence[Request] = list(anchor_maps(problem.layers).values())
    while proposed:
        trials += [
            problem.trial(number, request, seed) for number, request in enumerate(proposed, len(trials))
        ]
        proposed = strategy.propose(problem.layers, tuple(trials))
    return trials


def regret_of(problem: Problem, seed: int, trials: Sequence[Trial], limit: float) -> Regret:
    """What these trials miss of the best of all maps."""
    everything = [(0.0, 0.0)]
    everything += [
        (int8_share(problem, wanted), measures[seed].distance)
        for wanted, measures in problem.measures.items()
    ]
    scored = [trial for trial in trials if trial.outcome is Outcome.SCORED]
    found = [(int8_share(problem, trial.requested), damage_of(trial)) for trial in scored]
    best = max(share for share, damage in everything if damage <= limit)
    reached = max(share for share, damage in found if damage <= limit)
    least, least_found = (
        min(damage for share, damage in points if share >= best - _SAME_SHARE)
        for points in (everything, found)
    )
    screens = (len(trials) - len(scored)) * problem.screen_images / problem.images
    lost = (least_found - least) / limit if limit else 0.0
    given_up = {trial.requested for trial in trials} - {trial.requested for trial in scored}
    misjudged = [
        requested
        for requested in given_up
        if problem.measures[requested][seed].distance <= limit
        and int8_share(problem, requested) > reached + _SAME_SHARE
    ]
    return Regret(len(scored) - 1 + screens, best - reached, lost, len(given_up), len(misjudged))


def int8_share(problem: Problem, requested: PrecisionMap) -> float:
    """Share of the multiply-accumulates in INT8, 0 to 1."""
    return macs_share(problem.layers, requested, Precision.INT8)


def damage_of(trial: Trial) -> float:
    """Distance to FP32."""
    score = trial.score(DAMAGE)
    assert score is not None, "every trial of a problem has it"
    return score.value


def described(found: Sequence[Regret], problem: Problem) -> str:
    """The columns after strategy and budget."""
    maps = float(np.mean([regret.maps for regret in found]))
    costs = [100 * regret.cost for regret in found]
    optimal = sum(regret.is_optimal for regret in found)
    given_up, misjudged = (
        sum(getattr(regret, name) for regret in found) for name in ("given_up", "misjudged")
    )
    return (
        f"{maps:>6.1f} {max(regret.maps for regret in found):>5.1f} {maps / len(problem.measures):>7.1%} "
        f"{maps * problem.seconds:>6.0f} {np.mean(costs):>9.2f} {max(costs):>6.2f} "
        f"{np.mean([regret.score for regret in found]):>10.2f} {f'{optimal}/{len(found)}':>8} "
        f"{f'{misjudged}/{given_up}' if given_up else '':>9}"
    )


def parsed_options() -> argparse.Namespace:
    """Command line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = ["planted", *NETWORKS]
    parser.add_argument("--networks", nargs="+", choices=known, default=known)
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES))
    parser.add_argument("--groups", type=int, default=9)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--subset", type=int, default=36)
    parser.add_argument("--screen", type=int, default=9)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.05, 0.1, 0.3])
    parser.add_argument("--cache", type=Path, help="keeps all scores, by default nothing is kept")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()

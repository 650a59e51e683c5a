"""Searches whose every map is known: a damage for each set of INT8 layers, and what a screen makes of it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from qsens.core.layer import Layer
from qsens.core.maps import anchor_maps
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Score, Screen, Trial, Yardstick, requested_map, untried

Places = frozenset[int]
# What a screen costs, in full scores.
SCREEN_SHARE = 0.25
FP32_FID = 10.0


def fid_scores(damage: float, error: float = 0.0) -> tuple[Score, ...]:
    """Distances to real images and to the FP32 outputs that both grow with the damage."""
    of = {"lower_is_better": True, "standard_error": error, "difference_standard_error": error}
    fid = Score("fid[lite0]", FP32_FID + damage, 48, "real", difference=damage, **of)
    return fid, Score("fid-fp32[lite0]", damage, 48, "fp32", difference=damage, **of)


def psnr_scores(damage: float, error: float = 0.0) -> tuple[Score, ...]:
    """Decibels of a mean squared error that is the damage; 1 is 30 dB."""
    value = math.inf if damage == 0 else 30.0 - 10.0 * math.log10(damage)
    return (Score("psnr", value, 48, "fp32", lower_is_better=False),)


def likeness_scores(damage: float, error: float = 0.0) -> tuple[Score, ...]:
    """A score that falls with the damage, from 5."""
    return (Score("likeness", 5.0 - damage, 48, "real", lower_is_better=False, difference=-damage),)


def chain(macs) -> tuple[Layer, ...]:
    """Layers in a row, each its own block."""
    return tuple(
        Layer(f"conv{index}", f"node{index}", "Conv", f"block{index}", index, 10, size, size, (1, 4, 8, 8))
        for index, size in enumerate(macs)
    )


@dataclass(frozen=True, eq=False)
class Problem:
    """Answers requests.

    `damage` is of the set of INT8 layers, `fp16_damage` is added for every layer in FP16. A screen gives the
    damage times `screen(set)`; without it a run does not screen. Maps in which `fails` holds fail, layers in
    `overflows(map)` overflow, `errors` are standard errors as shares of the damage,
    `yardsticks` damages of FP32's pictures by alteration.
    """

    layers: tuple[Layer, ...]
    damage: Callable[[Places], float]
    screen: Callable[[Places], float] | None = lambda chosen: 1.0
    scores: Callable[..., tuple[Score, ...]] = fid_scores
    fp16_damage: Mapping[str, float] = field(default_factory=dict)
    fails: Callable[[PrecisionMap], bool] = lambda requested: False
    overflows: Callable[[PrecisionMap], Mapping[str, int]] = lambda requested: {}
    error: float = 0.0
    duration_s: float = 1.0
    yardsticks: Mapping[str, float] = field(default_factory=dict)

    def trial(self, number, request) -> Trial:
        requested = requested_map(request)
        if self.fails(requested):
            return Trial(
                number, requested, None, Outcome.FAILED, error="no kernel", duration_s=self.duration_s
            )
        damage = self.damage_of(requested)
        factor = None if self.screen is None else self.screen(int8_in(self.layers, requested))
        of_screen = () if factor is None else self.scores(factor * damage, self.error * factor * damage)
        scales = self.yardsticks if requested == PrecisionMap(Precision.FP32) else {}
        is_screen = isinstance(request, Screen) and self.screen is not None
        return Trial(
            number,
            requested,
            requested,
            Outcome.SCREENED if is_screen else Outcome.SCORED,
            scores=of_screen if is_screen else self.scores(damage),
            screen_scores=() if is_screen else of_screen,
            duration_s=self.duration_s * (SCREEN_SHARE if is_screen else 1.0),
            fp16_overflows=tuple(self.overflows(requested).items()),
            yardsticks=tuple(Yardstick(name, self.scores(value)) for name, value in scales.items()),
        )

    def damage_of(self, requested) -> float:
        floats = sum(
            self.fp16_damage.get(name, 0.0) for name in in_precision(self, requested, Precision.FP16)
        )
        return self.damage(int8_in(self.layers, requested)) + floats

    @property
    def everything(self) -> float:
        """The damage of INT8 everywhere."""
        return self.damage(frozenset(range(len(self.layers))))

    def saving(self, chosen) -> float:
        """The share of multiply-accumulates in these layers."""
        return sum(self.layers[place].macs for place in chosen) / sum(layer.macs for layer in self.layers)


def in_precision(problem, requested, precision) -> list[str]:
    return [layer.name for layer in problem.layers if requested[layer.name] is precision]


def int8_in(layers, requested) -> Places:
    return frozenset(layer.index for layer in layers if requested[layer.name] is Precision.INT8)


def searched(strategy, problem, *, most=2000) -> tuple[Trial, ...]:
    """All trials of a run, the anchors first; a request is never asked twice."""
    trials = []
    requests = list(dict.fromkeys(anchor_maps(problem.layers).values()))
    while requests:
        assert untried(requests, trials) == requests
        trials += [problem.trial(number, request) for number, request in enumerate(requests, len(trials))]
        assert len(trials) <= most
        requests = strategy.propose(problem.layers, tuple(trials))
    return tuple(trials)


def scored(trials) -> list[Trial]:
    return [trial for trial in trials if trial.outcome is Outcome.SCORED]


def effort(trials) -> float:
    """Maps used, FP32 not counted: a screen is a part of one."""
    full = sum(trial.outcome is not Outcome.SCREENED for trial in trials)
    return full - 1 + SCREEN_SHARE * (len(trials) - full)


def best_found(problem, trials, limit) -> Places:
    """The scored set with the largest saving whose damage is within the limit."""
    sets = [int8_in(problem.layers, trial.requested) for trial in scored(trials)]
    within = [chosen for chosen in sets if problem.damage(chosen) <= limit]
    return max(within, key=problem.saving)


def best_there_is(problem, limit) -> float:
    """The largest saving within the limit, of all sets."""
    places = range(len(problem.layers))
    sets = (frozenset(chosen) for count in range(len(places) + 1) for chosen in combinations(places, count))
    return max(problem.saving(chosen) for chosen in sets if problem.damage(chosen) <= limit)


def best_boundary(problem, limit) -> float:
    """The largest saving within the limit of all boundaries, both ways."""
    count = len(problem.layers)
    cuts = [frozenset(range(cut)) for cut in range(count + 1)]
    cuts += [frozenset(range(cut, count)) for cut in range(count + 1)]
    return max(problem.saving(chosen) for chosen in cuts if problem.damage(chosen) <= limit)


def with_pairs(own, pairs) -> Callable[[Places], float]:
    """Damages that add, and a share of the geometric mean of every two: `pairs` (K, K), the upper half."""
    own, pairs = np.asarray(own, dtype=float), np.triu(np.asarray(pairs, dtype=float), 1)
    between = pairs * np.sqrt(np.outer(own, own))

    def damage(chosen):
        places = sorted(chosen)
        return max(float(own[places].sum() + between[np.ix_(places, places)].sum()), 0.0)

    return damage


def noisy(seed, *, scale=1.2, spread=0.08) -> Callable[[Places], float]:
    """Screens that are a common factor and log-normal noise away."""

    def factor(chosen):
        places = sum(1 << place for place in chosen)
        return scale * np.random.default_rng([seed, places]).lognormal(0.0, spread)

    return factor


def random_problem(seed, count, *, interaction=0.1, **options) -> Problem:
    """Log-normal damages and sizes, pairs that add or take away some of their geometric mean."""
    random = np.random.default_rng(seed)
    own = random.lognormal(0.0, 1.2, count)
    pairs = random.normal(0.0, interaction, (count, count))
    layers = chain(random.integers(100, 1000, count).tolist())
    return Problem(layers, with_pairs(own, pairs), **{"screen": noisy(seed), **options})

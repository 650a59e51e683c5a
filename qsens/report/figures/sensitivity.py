"""Sensitivity: what each layer or block does to a metric, alone in INT8, alone in float, or at a cut."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from qsens.core.maps import Direction, Isolation, IsolationKind, anchor_trial, unit_of
from qsens.core.precision import Precision
from qsens.core.trial import Score, Study
from qsens.report.comparable import (
    Scored,
    error_to_fp32,
    is_against_fp32,
    scored_trials,
    screened_trials,
)
from qsens.report.figures.block_axis import layer_titles
from qsens.report.figures.boundary_curve import BoundaryLine, boundary_lines
from qsens.report.figures.yardstick_axis import YardstickTick, yardstick_effects
from qsens.selection.choose import PairedError, no_paired_error

STEP_ORIGINS = {
    Direction.INT8_FIRST: "joins the INT8 layers before it",
    Direction.FLOAT_FIRST: "joins the INT8 layers after it",
}
_Isolated = tuple[Scored, Isolation]


@dataclass(frozen=True)
class Effect:
    """The effect of one unit on a metric, in the metric's own unit.

    `origin` says what `value` is: the map with only this unit in INT8 minus FP32; the map with only this
    unit in float minus all-INT8; or the step of a boundary curve at which the unit joins the INT8 side.
    `is_paired` says that `standard_error` is that of the same inputs, not of two taken as independent.
    `images` is how many the scores were made on; where `is_screen`, these are the few of a screen, and the
    effect must only be compared with others there.
    """

    unit: str
    name: str
    start: int
    origin: str
    value: float
    standard_error: float | None
    is_paired: bool
    trial: int
    images: int
    is_screen: bool = False

    @property
    def label(self) -> str:
        """The origin, and the images of a screen: effects that share a label can be compared."""
        return f"{self.origin}, on {self.images} images" if self.is_screen else self.origin


@dataclass(frozen=True)
class Sensitivity:
    """Effects of one metric, in execution order within each label.

    `yardsticks`: what alterations of FP32's own pictures change the score by. `starts`: the score, by
    label, that effects are counted from, on the scale of all images; none where that is no single score.
    `limit`: the worst acceptable score. `titles`: short names of layers.
    """

    metric: str
    lower_is_better: bool
    is_from_steps: bool
    effects: tuple[Effect, ...]
    yardsticks: tuple[YardstickTick, ...] = ()
    starts: Mapping[str, float] = field(default_factory=dict)
    limit: float | None = None
    titles: Mapping[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order in which they appear."""
        return tuple(dict.fromkeys(effect.label for effect in self.effects))

    @property
    def screen_images(self) -> int | None:
        """The number of images of a screen; `None` where no effect is from a screen."""
        return next((effect.images for effect in self.effects if effect.is_screen), None)

    def limit_of(self, label: str) -> float | None:
        """The effect that takes the score to its limit, for effects of one label."""
        start = self.starts.get(label)
        return None if self.limit is None or start is None else self.limit - start

    def of(self, label: str) -> tuple[Effect, ...]:
        """The effects of one label."""
        return tuple(effect for effect in self.effects if effect.label == label)


def sensitivity_of(
    study: Study, metric: str, paired_error: PairedError = no_paired_error
) -> Sensitivity | None:
    """Effects of single units on `metric`; `None` where no map says anything about a single unit.

    A boundary sweep isolates its end layers by the way, so isolating maps count only if one of them
    singles out a unit inside the network. Where a unit was isolated on the images of a screen alone, the
    screens give a set of effects of their own, of every unit that was isolated there.
    """
    scored, screened = scored_trials(study, metric), screened_trials(study, metric)
    isolated, isolated_there = _isolated(study, scored), _isolated(study, screened)
    if _are_known(isolated_there, isolated):
        isolated_there = []
    has_inner = any(not isolation.is_at_an_end for _, isolation in (*isolated, *isolated_there))
    if has_inner:
        effects = [
            *_isolated_effects(study, isolated, scored, paired_error),
            # evidence that pairs two trials is of all images
            *_isolated_effects(study, isolated_there, screened, no_paired_error),
        ]
    else:
        effects = [
            effect
            for line in boundary_lines(study, metric)
            for effect in _steps(study, metric, line, paired_error)
        ]
    if not effects:
        return None
    # The same map may have been screened, and asked for by another strategy.
    effects = list({(found.label, found.unit, found.name): found for found in reversed(effects)}.values())
    kinds = [*map(str, IsolationKind), *STEP_ORIGINS.values()]
    effects.sort(key=lambda effect: (kinds.index(effect.origin), effect.is_screen, effect.start, effect.unit))
    record = (*scored, *screened)[0].record
    return Sensitivity(
        metric,
        record.lower_is_better,
        not has_inner,
        tuple(effects),
        yardstick_effects(study, metric),
        _starts_of(study, effects, scored, screened) if has_inner else {},
        titles=layer_titles(study.layers),
    )


def _starts_of(
    study: Study, effects: Iterable[Effect], scored: Sequence[Scored], screened: Sequence[Scored]
) -> dict[str, float]:
    """The score that the effects of each label are counted from; a screen's, moved by FP32's on all."""
    full, there = _uniform(study, scored), _uniform(study, screened)
    whole, few = (found[IsolationKind.ONLY_INT8] for found in (full, there))
    shift = 0.0 if whole is None or few is None else whole.value - few.value
    starts = {}
    for effect in effects:
        kind = IsolationKind(effect.origin)
        start = there[kind] if effect.is_screen else full[kind]
        value = None if start is None else start.value + (shift if effect.is_screen else 0.0)
        if value is not None and math.isfinite(value):
            starts[effect.label] = value
    return starts


def _isolated(study: Study, entries: Iterable[Scored]) -> list[_Isolated]:
    return [
        (entry, isolation)
        for entry in entries
        if entry.trial.applied is not None and math.isfinite(entry.value)
        for isolation in study.shapes.isolations_of(entry.trial.applied)
    ]


def _are_known(some: Sequence[_Isolated], others: Sequence[_Isolated]) -> bool:
    """Whether every unit of `some` is singled out in the same way by one of `others`."""
    found = {(isolation.kind, isolation.unit, isolation.name) for _, isolation in others}
    return all((isolation.kind, isolation.unit, isolation.name) in found for _, isolation in some)


def _isolated_effects(
    study: Study, isolated: Sequence[_Isolated], entries: Sequence[Scored], paired_error: PairedError
) -> list[Effect]:
    """Effects of isolating maps, against the uniform maps among `entries`, which share their images."""
    starts = _uniform(study, entries)
    found = []
    for entry, isolation in isolated:
        start = starts[isolation.kind]
        if start is not None and math.isfinite(start.value):
            found.append(_isolated_effect(study, (start, entry), isolation, paired_error))
    return found


def _uniform(study: Study, entries: Sequence[Scored]) -> dict[IsolationKind, Scored | None]:
    """The uniform map that each kind of isolation is counted from, as it is among `entries`."""
    return {
        kind: next((entry for entry in entries if entry.trial is anchor_trial(study, precision)), None)
        for kind, precision in (
            (IsolationKind.ONLY_INT8, Precision.FP32),
            (IsolationKind.ALL_BUT_INT8, Precision.INT8),
        )
    }


def _isolated_effect(
    study: Study, pair: tuple[Scored, Scored], isolation: Isolation, paired_error: PairedError
) -> Effect:
    start, entry = pair
    error, is_paired = _error_between(study, pair, paired_error)
    if isolation.kind is IsolationKind.ONLY_INT8 and not is_paired:
        error, is_paired = _own_error(study, entry.record)
    place = (isolation.unit, isolation.name, isolation.start, str(isolation.kind))
    return Effect(
        *place,
        entry.value - start.value,
        error,
        is_paired,
        entry.trial.number,
        entry.record.images,
        is_screen=entry.is_screen,
    )


def _steps(study: Study, metric: str, line: BoundaryLine, paired_error: PairedError) -> list[Effect]:
    """The change of the score at each cut, signed as if the unit joined the INT8 side."""
    entries = {entry.trial.number: entry for entry in scored_trials(study, metric)}
    found = []
    for left, right in pairwise(line.points):
        members = study.layers[left.boundary : right.boundary]
        unit, name = unit_of(members, study.layers) or ("range", f"{members[0].name} … {members[-1].name}")
        before, after = (left, right) if line.direction is Direction.INT8_FIRST else (right, left)
        pair = (entries[before.trial], entries[after.trial])
        error, is_paired = _error_between(study, pair, paired_error)
        place = (unit, name, left.boundary, STEP_ORIGINS[line.direction])
        value, images = after.value - before.value, pair[1].record.images
        found.append(Effect(*place, value, error, is_paired, after.trial, images))
    return found


def _error_between(
    study: Study, pair: tuple[Scored, Scored], paired_error: PairedError
) -> tuple[float | None, bool]:
    """Standard error of the difference of two trials; as if independent where nothing better is known."""
    one, other = pair
    exact = paired_error(one.record.metric, one.trial, other.trial)
    if exact is not None:
        return exact, True
    errors = [_own_error(study, entry.record)[0] for entry in pair]
    known = [error for error in errors if error is not None]
    return (math.hypot(*known) if len(known) == 2 else None), False


def _own_error(study: Study, score: Score) -> tuple[float | None, bool]:
    return error_to_fp32(score, is_difference=is_against_fp32(study, score.metric))

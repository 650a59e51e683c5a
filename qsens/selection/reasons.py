"""Reasons for the precision of each layer of a chosen map: from the nearest trial that tells of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from qsens.core.layer import Layer
from qsens.core.maps import built_map
from qsens.core.precision import Precision
from qsens.core.trial import Study, Trial
from qsens.selection.budget import Limit, told_apart
from qsens.selection.choose import Selection
from qsens.selection.evidence_of_limits import LimitCheck, MapTrial
from qsens.selection.neighbourhood import MOST_NAMED, Neighbourhood
from qsens.selection.timings import Timings

__all__ = ["Reason", "ReasonKind", "reasons_of", "reasons_of_selection"]

AFTER_REPAIR = "costly even after repair"


class ReasonKind(StrEnum):
    """The use of a reason to a reader: what to do about the layer follows from it."""

    COSTLY = "costly"
    TOGETHER = "costly-together"
    FREE = "free"
    NOT_TRIED = "not-tried"
    CANNOT = "cannot"


@dataclass(frozen=True)
class Reason:
    """The reason for a layer's precision: `str` gives a sentence, `trials` the trials that it names."""

    text: str
    trials: tuple[int, ...]
    kind: ReasonKind

    def __str__(self) -> str:
        return self.text


def reasons_of_selection(study: Study, selection: Selection) -> dict[str, Reason]:
    """`reasons_of` a selection, by its limits and the times that it was made on."""
    timings = None if selection.latency is None else selection.latency.timings
    return reasons_of(study, selection.trial, selection.limits, timings)


def reasons_of(
    study: Study, chosen: Trial, limits: Sequence[Limit], timings: Timings | None = None
) -> dict[str, Reason]:
    """The reason for each precision in the chosen trial's map, by layer name, in the study's order.

    `limits` are those of `qsens.selection.choose.limits_of`. A layer is blamed for a map beyond the limits
    only where no part of that map without the layer is beyond them too, and by the map that has the fewest
    other layers beside the chosen map's. Trials on the few images of a screen count where none on all images
    tells, but never for a map that would do. Costs are never added.
    """
    around = Neighbourhood(study, chosen, tuple(limits), timings)
    return {layer.name: _reason(around, layer) for layer in study.layers}


def _reason(around: Neighbourhood, layer: Layer) -> Reason:
    chosen = around.chosen
    asked, runs = chosen.requested[layer.name], built_map(chosen)[layer.name]
    if asked is not runs and Precision.INT8 in (asked, runs):
        text = (
            f"the engine runs it in {runs.upper()} although {asked.upper()} was asked (trial {chosen.number})"
        )
        return Reason(text, (chosen.number,), ReasonKind.CANNOT)
    if len(layer.allowed) == 1 or Precision.INT8 not in layer.allowed:
        return Reason(_why_not_allowed(layer), (), ReasonKind.CANNOT)
    if runs is Precision.INT8:
        return _int8_reason(around, layer.name)
    reason = _after_repair(around, _reason_against_int8(around, layer.name))
    return _with_overflow(around, layer, reason) if runs is Precision.FP32 else reason


def _why_not_allowed(layer: Layer) -> str:
    allowed = " or ".join(precision.upper() for precision in Precision if precision in layer.allowed)
    word = "pinned to" if len(layer.allowed) == 1 else "INT8 is not allowed here, only"
    return layer.float_reason or f"{word} {allowed}"


def _reason_against_int8(around: Neighbourhood, layer: str) -> Reason:
    """The reason that the layer named `layer` is not in INT8, by the nearest evidence there is."""
    found = (find(around, layer) for find in _BY_NEARNESS)
    return next(reason for reason in found if reason is not None)


def _after_repair(around: Neighbourhood, reason: Reason) -> Reason:
    """The reason, with a word on what its cost already has behind it."""
    repair = around.study.repair
    if repair is None or not repair.is_taken or reason.kind not in (ReasonKind.COSTLY, ReasonKind.TOGETHER):
        return reason
    return replace(reason, text=f"{AFTER_REPAIR}: {reason.text}")


def _free(around: Neighbourhood, layer: str) -> Reason | None:
    """More INT8 keeps the limits too, which happens where maps are chosen by measured time."""
    found = (tried for tried in around.supersets if layer in tried.int8_layers)
    tried = next((tried for tried in found if not tried.is_beyond and not tried.is_screen), None)
    if tried is None or not around.is_nearest(tried, layer):
        return None
    who, too = around.names_beside(tried, layer), " too" if around.int8_layers else ""
    start = f"with {who} in INT8{too} (trial {tried.number}) the limits are kept"
    text = f"{start}{_time_clause(around, tried)}: {tried}"
    mine = None if tried.worst is None else _chosen_check(around, tried, tried.worst)
    text += "" if mine is None else f"; the chosen map has {mine.value:.4g}"
    return Reason(text, (tried.number,), ReasonKind.FREE)


def _time_clause(around: Neighbourhood, tried: MapTrial) -> str:
    if around.timings is None:
        return ""
    mine, other = around.timings.of(around.chosen), around.timings.of(tried.trial)
    if mine is None or other is None:
        return f", but it was not measured on {around.timings.place}"
    word = "in" if other.ms < mine.ms and not other.is_as_fast_as(mine) else "but no faster:"
    shown = told_apart(other.ms, mine.ms)
    return f", {word} {shown[0]} ms instead of {shown[1]} ms"


def _screened(around: Neighbourhood, layer: str) -> Reason | None:
    """The chosen map with only the layer, or it and some of its block, was screened and not scored."""
    block = around.blocks[layer]
    near = (tried for tried in around.supersets if layer in tried.int8_layers and around.more(tried) <= block)
    tried = next(near, None)
    if tried is None or not (tried.is_screen and tried.worst and tried.seems_within):
        return None
    if not around.is_nearest(tried, layer):
        return None
    start = around.start(tried, layer)
    cost = tried.estimated(start) or f"{start} {around.taken(tried, tried.worst)}"
    text = f"{cost}{_time_clause(around, tried)}: so few images do not tell, and no full score was made"
    return Reason(text, (tried.number,), ReasonKind.NOT_TRIED)


def _blamed_nearby(around: Neighbourhood, layer: str) -> Reason | None:
    """With it, or it and a few others or some of its block, beside the chosen map's layers it is too much."""
    blaming = around.blamed.get(layer)
    more = frozenset() if blaming is None else around.more(blaming)
    return _blamed(around, layer) if len(more) <= MOST_NAMED or more <= around.blocks[layer] else None


def _blamed(around: Neighbourhood, layer: str) -> Reason | None:
    """The nearest map beyond the limits that the layer is to blame for, alone or with others."""
    tried = around.blamed.get(layer)
    if tried is None:
        return None
    kind = ReasonKind.COSTLY if around.more(tried) == {layer} else ReasonKind.TOGETHER
    kind = ReasonKind.CANNOT if tried.has_failed else kind
    return Reason(tried.told(around.start(tried, layer)), (tried.number,), kind)


def _no_room(around: Neighbourhood, layer: str) -> Reason | None:
    """Alone it costs more than the chosen map leaves of the limit."""
    alone = around.alone.get(layer)
    worst = None if alone is None else alone.worst
    mine = None if alone is None or worst is None else _chosen_check(around, alone, worst)
    if alone is None or worst is None or mine is None or not worst.cost > 0:
        return None
    ratio = alone.ratio(worst.limit) or 1.0
    if not ratio * (worst.cost + mine.cost) > worst.limit.points:
        return None
    return replace(_alone_cost(around, alone, layer), kind=ReasonKind.TOGETHER)


def _not_tried(around: Neighbourhood, layer: str) -> Reason:
    """No map tells of the layer beside the chosen map's."""
    alone, blocker = around.alone.get(layer), around.blocker(layer)
    if alone is not None:
        cost = _alone_cost(around, alone, layer)
        return replace(cost, text=f"{cost.text}; next to it no trial tells") if around.int8_layers else cost
    if blocker is not None:
        below = around.names(around.more(blocker) or blocker.int8_layers)
        text = blocker.told(f"tried in INT8 only on top of {below}, which is too much already")
        return Reason(text, (blocker.number,), ReasonKind.NOT_TRIED)
    is_tried = any(layer in tried.int8_layers for tried in around.tried)
    tail = " next to the INT8 layers of the chosen map" if is_tried and around.int8_layers else ""
    return Reason(f"no trial tells: not tried in INT8{tail}", (), ReasonKind.NOT_TRIED)


_BY_NEARNESS = (_free, _screened, _blamed_nearby, _no_room, _blamed, _not_tried)


def _alone_cost(around: Neighbourhood, tried: MapTrial, layer: str) -> Reason:
    """The cost of the layer alone, within the limits, beside the chosen map's; the two need not add."""
    worst = tried.worst
    assert worst is not None, "what is within the limits has a check"
    mine = _chosen_check(around, tried, worst)
    text = f"{around.names_alone(tried, layer)} in INT8 (trial {tried.number})"
    if math.isfinite(worst.cost):
        images = f", {worst.images} images" if worst.is_screen else ""
        where = f"({worst.limit.metric}{images})"
        text += f" it costs {worst.cost:.3g} of {worst.limit.points:.4g} allowed {where}"
    else:
        text += f": {worst}"
    numbers = [tried.number]
    if mine is not None:
        has = f"costs {mine.cost:.3g}" if math.isfinite(mine.cost) else f"has {mine.value:.4g}"
        there = " there" if mine.is_screen else ""
        text += f"; the chosen map (trial {around.chosen.number}) {has}{there}"
        numbers.append(around.chosen.number)
    return Reason(text, _unique(*numbers), ReasonKind.NOT_TRIED)


def _chosen_check(around: Neighbourhood, tried: MapTrial, check: LimitCheck) -> LimitCheck | None:
    """The chosen map's check of the same metric, on the same images where it has one."""
    metric = check.limit.metric
    return tried.on_screen.get(metric, around.checks.get(metric))


def _unique(*numbers: int) -> tuple[int, ...]:
    return tuple(dict.fromkeys(numbers))


def _with_overflow(around: Neighbourhood, layer: Layer, reason: Reason) -> Reason:
    """FP16 overflowed in a layer that is FP32, in front of why it is not INT8."""
    counts = {
        trial.number: count
        for trial in around.study.trials
        for name, count in trial.fp16_overflows
        if name == layer.name and count > 0 and built_map(trial)[name] is Precision.FP16
    }
    if not counts:
        return reason
    number = max(counts, key=lambda number: counts[number])
    values = "1 value" if counts[number] == 1 else f"{counts[number]} values"
    text = f"FP16 cannot hold {values} there (trial {number}), so it is FP32; in INT8: {reason}"
    return Reason(text, _unique(number, *reason.trials), reason.kind)


def _int8_reason(around: Neighbourhood, layer: str) -> Reason:
    alone = around.alone.get(layer)
    if alone is not None and alone.worst is not None:
        who = around.names_alone(alone, layer)
        return Reason(f"{who} {around.taken(alone, alone.worst)}", (alone.number,), ReasonKind.FREE)
    worst = max(around.checks.values(), key=lambda check: check.share, default=None)
    score = "" if worst is None else f": {worst}"
    text = f"part of the chosen map (trial {around.chosen.number}){score}"
    return Reason(text, (around.chosen.number,), ReasonKind.FREE)

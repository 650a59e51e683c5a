"""Reasons for the precision of each layer of a chosen map: from each kind of trial, the strongest first."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from qsens.core.layer import Layer
from qsens.core.maps import built_map
from qsens.core.precision import Precision
from qsens.core.trial import Study, Trial
from qsens.selection.budget import Limit, told_apart
from qsens.selection.choose import Selection
from qsens.selection.evidence_of_limits import MOST_NAMED, LimitCheck, MapTrial, Neighbourhood
from qsens.selection.timings import Timings

__all__ = ["Reason", "ReasonKind", "reasons_of", "reasons_of_selection"]


class ReasonKind(StrEnum):
    """The evidence that a reason rests on."""

    NOT_AS_ASKED = "not-as-asked"
    PINNED = "pinned"
    OVERFLOW = "overflow"
    FAILED = "failed"
    ADDED = "added"
    ALONE = "alone"
    ALSO_WITHIN = "also-within"
    ALL_BUT = "all-but"
    SUBSET = "subset"
    COST = "cost"
    BEHIND = "behind"
    TOGETHER = "together"
    UNTRIED = "untried"
    INT8 = "int8"


@dataclass(frozen=True)
class Reason:
    """The reason for a layer's precision: `str` gives a sentence, `trials` the trials that it names.

    `text` may hold for other layers too; `detail` is what to add of this layer only, or empty.
    """

    text: str
    trials: tuple[int, ...]
    kind: ReasonKind
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.text}; {self.detail}" if self.detail else self.text


def float_reason(around: Neighbourhood, layer: str) -> Reason:
    """The reason that the layer named `layer` is not in INT8, by the strongest evidence there is."""
    for find in _BY_STRENGTH:
        if reason := find(around, layer):
            return reason
    is_tried = any(layer in tried.int8_layers for tried in around.tried)
    tail = " next to the INT8 layers of the chosen map" if is_tried and around.int8_layers else ""
    return Reason(f"no trial tells: not tried in INT8{tail}", (), ReasonKind.UNTRIED)


def _nearest_within(around: Neighbourhood, layer: str) -> Reason | None:
    """The chosen map with only the layer, or it and some of its block, keeps the limits in INT8 too."""
    block = around.blocks[layer]
    near = (tried for tried in around.supersets if layer in tried.int8_layers and around.more(tried) <= block)
    tried = next(near, None)
    if tried is None or not tried.seems_within:
        return None
    return _seems_within(around, tried) if tried.is_screen else _kept(around, tried)


def _seems_within(around: Neighbourhood, tried: MapTrial) -> Reason:
    assert tried.worst is not None, "a trial without a check is not within"
    more = around.more(tried)
    is_one = len(more) == 1
    if around.int8_layers:
        start = f"with {'it' if is_one else around.names(more)} in INT8 too"
    else:
        start = f"{'alone' if is_one else f'{around.names(more)} alone'} in INT8"
    cost = tried.estimated(start) or f"{start} {around.taken(tried, tried.worst)}"
    seems = f"{'it seems' if is_one else 'they seem'} to keep to the limit{_time_clause(around, tried)}"
    return Reason(f"{cost}: {seems}; no full score was made", (tried.number,), ReasonKind.ALSO_WITHIN)


def _added(around: Neighbourhood, layer: str) -> Reason | None:
    """The chosen map with the layer in INT8 too, alone or with up to two others or some of its block."""
    tried = _nearest_beyond(around, layer)[0] if around.int8_layers else None
    if tried is None:
        return None
    more = around.more(tried)
    if len(more) > MOST_NAMED and not more <= around.blocks[layer]:
        return None
    who = "it" if len(more) == 1 else around.names(more)
    return _from_trial(f"with {who} in INT8 too", tried, ReasonKind.ADDED)


def _nearest_beyond(around: Neighbourhood, layer: str) -> tuple[MapTrial | None, MapTrial | None]:
    """The smallest superset with the layer that is beyond the limits and holds the layer responsible.

    Where every such map holds a smaller one that is beyond without the layer, that one comes second.
    """
    blocker = None
    for tried in around.beyond:
        if layer not in tried.int8_layers:
            continue
        found = _without(layer, tried, around.beyond)
        if found is None:
            return tried, None
        blocker = blocker or found
    return None, blocker


def _without(layer: str, tried: MapTrial, others: Sequence[MapTrial]) -> MapTrial | None:
    """One of `others` whose INT8 layers are some of those of `tried`, `layer` not among them."""
    parts = (
        other for other in others if layer not in other.int8_layers and other.int8_layers <= tried.int8_layers
    )
    return next(parts, None)


def _alone(around: Neighbourhood, layer: str) -> Reason | None:
    tried = single_trial(around, layer, is_beyond=True)
    if tried is None:
        return None
    who = "alone" if len(tried.int8_layers) == 1 else f"{around.names(tried.int8_layers)} alone"
    return _from_trial(f"{who} in INT8", tried, ReasonKind.ALONE)


def single_trial(around: Neighbourhood, layer: str, *, is_beyond: bool) -> MapTrial | None:
    """The trial with only the layer in INT8, else with only it and others of its block.

    Of those beyond the limits none counts that holds another one, beyond without the layer.
    """
    block = around.blocks[layer]
    of_block = [
        tried
        for tried in around.tried
        if tried.is_beyond is is_beyond and tried.int8_layers and tried.int8_layers <= block
    ]
    found = [
        tried
        for tried in of_block
        if layer in tried.int8_layers and not (is_beyond and _without(layer, tried, of_block))
    ]
    return min(found, key=lambda tried: (len(tried.int8_layers), tried.is_screen, tried.number), default=None)


def _also_within(around: Neighbourhood, layer: str) -> Reason | None:
    """More INT8 keeps the limits too, which happens where maps are chosen by measured time."""
    found = (tried for tried in around.supersets if layer in tried.int8_layers)
    tried = next((tried for tried in found if not tried.is_beyond and not tried.is_screen), None)
    return None if tried is None else _kept(around, tried)


def _kept(around: Neighbourhood, tried: MapTrial) -> Reason:
    more = around.more(tried)
    who = "it" if len(more) == 1 else around.names(more)
    start = (
        f"with {who} in INT8{' too' if around.int8_layers else ''} (trial {tried.number}) the limits are kept"
    )
    text = f"{start}{_time_clause(around, tried)}: {tried}"
    mine = None if tried.worst is None else _chosen_check(around, tried, tried.worst)
    text += "" if mine is None else f"; the chosen map has {mine.value:.4g}"
    return Reason(text, (tried.number,), ReasonKind.ALSO_WITHIN)


def _time_clause(around: Neighbourhood, tried: MapTrial) -> str:
    if around.timings is None:
        return ""
    mine, other = around.timings.of(around.chosen), around.timings.of(tried.trial)
    if mine is None or other is None:
        return f", but it was not measured on {around.timings.place}"
    word = "in" if other.ms < mine.ms and not other.is_as_fast_as(mine) else "but no faster:"
    shown = told_apart(other.ms, mine.ms)
    return f", {word} {shown[0]} ms instead of {shown[1]} ms"


def _all_but(around: Neighbourhood, layer: str) -> Reason | None:
    """The gain where only the layer, or it and others of its block, are spared of INT8 everywhere.

    Counted where the gain is more than an even share of the damage and more than its error.
    """
    everything = around.everything
    if everything is None or everything.worst is None:
        return None
    block, metric = around.blocks[layer], everything.worst.limit.metric
    near = [tried for tried in around.tried if metric in tried.checks and around.spared(tried) <= block]
    for tried in sorted(near, key=lambda tried: (len(around.spared(tried)), tried.number)):
        spared = around.spared(tried)
        if layer not in spared:
            continue
        # what others of the block gain without this layer is not its own
        with_it = [other for other in near if around.spared(other) <= spared - {layer}]
        other = max(with_it, key=lambda other: len(around.spared(other)), default=everything)
        before, after = other.checks[metric], tried.checks[metric]
        if not _is_large(before, after, everything.worst.cost / len(around.movable)):
            continue
        text = _spared_text(around, tried, other, metric)
        if everything.worst.cost > 0:
            share = (before.excess - after.excess) / everything.worst.cost
            text += f", {min(share, 1):.0%} of the damage"
        return Reason(text, (tried.number, other.number), ReasonKind.ALL_BUT)
    return None


def _is_large(before: LimitCheck, after: LimitCheck, even_share: float) -> bool:
    gain = before.excess - after.excess
    if not math.isfinite(gain) or before.is_screen is not after.is_screen:
        return False
    widths = [check.half_width for check in (before, after) if check.half_width is not None]
    # decibels have no shares
    least = even_share if math.isfinite(even_share) else 0.0
    return gain > max(least, math.hypot(*widths), 0.0)


def _spared_text(around: Neighbourhood, tried: MapTrial, other: MapTrial, metric: str) -> str:
    spared = around.spared(tried)
    moved = spared - around.spared(other)
    who = "it" if len(spared) == 1 else around.names(spared)
    with_whom = "it" if len(spared) == 1 else around.names(moved)
    shown = told_apart(tried.checks[metric].value, other.checks[metric].value)
    start = f"all but {who} in INT8 (trial {tried.number}): {metric} {shown[0]} instead of {shown[1]}"
    return f"{start} with {with_whom} in INT8{tried.checks[metric].place} (trial {other.number})"


def _subset(around: Neighbourhood, layer: str) -> Reason | None:
    """The layer with only some of the chosen map's INT8 layers is beyond the limits."""
    found = [
        tried
        for tried in around.tried
        if tried.is_beyond and around.more(tried) == {layer} and tried.int8_layers & around.int8_layers
    ]
    if not found:
        return None
    tried = min(found, key=lambda tried: (tried.is_screen, len(tried.int8_layers), tried.number))
    others = around.names(tried.int8_layers & around.int8_layers)
    return _from_trial(f"in INT8 with {others} of the chosen map's INT8 layers", tried, ReasonKind.SUBSET)


def _cost_over(around: Neighbourhood, layer: str) -> Reason | None:
    """`alone_cost`, where the chosen map leaves less of the limit than that."""
    alone = single_trial(around, layer, is_beyond=False)
    worst = None if alone is None else alone.worst
    mine = None if alone is None or worst is None else _chosen_check(around, alone, worst)
    if alone is None or worst is None or mine is None or not worst.cost > 0:
        return None
    ratio = alone.ratio(worst.limit) or 1.0
    return alone_cost(around, layer) if ratio * (worst.cost + mine.cost) > worst.limit.points else None


def alone_cost(around: Neighbourhood, layer: str) -> Reason | None:
    """The cost of the layer named `layer` alone, within the limits, beside the chosen map's.

    The two need not add. `None` where no trial tells.
    """
    tried = single_trial(around, layer, is_beyond=False)
    if tried is None or tried.worst is None:
        return None
    worst, mine = tried.worst, _chosen_check(around, tried, tried.worst)
    who = "alone" if len(tried.int8_layers) == 1 else f"{around.names(tried.int8_layers)} alone"
    text, there = f"{who} in INT8 (trial {tried.number})", ""
    if math.isfinite(worst.cost):
        images = f", {worst.images} images" if worst.is_screen else ""
        text += (
            f" it costs {worst.cost:.3g} of {worst.limit.points:.4g} allowed ({worst.limit.metric}{images})"
        )
    else:
        text += f": {worst}"
    if mine is None:
        return Reason(text, (tried.number,), ReasonKind.COST)
    if mine.is_screen:
        there = " there"
    has = f"costs {mine.cost:.3g}" if math.isfinite(mine.cost) else f"has {mine.value:.4g}"
    text += f"; the chosen map (trial {around.chosen.number}) {has}{there}"
    return Reason(text, unique_numbers(tried.number, around.chosen.number), ReasonKind.COST)


def _chosen_check(around: Neighbourhood, tried: MapTrial, check: LimitCheck) -> LimitCheck | None:
    """The chosen map's check of the same metric, on the same images where it has one."""
    metric = check.limit.metric
    return tried.on_screen.get(metric, around.checks.get(metric))


def _with_others(around: Neighbourhood, layer: str) -> Reason | None:
    """Next to the chosen map the layer was tried with many others only, or on top of one that fails."""
    tried, blocker = _nearest_beyond(around, layer)
    if tried is not None:
        count = len(around.more(tried)) - 1
        others = "everything else" if tried.int8_layers == around.movable else f"{count} more"
        start = f"next to the chosen map tried in INT8 only with {others}"
        reason = _from_trial(
            start if around.int8_layers else f"in INT8 with {others}", tried, ReasonKind.TOGETHER
        )
    elif blocker is not None:
        below = around.names(around.more(blocker))
        only = f"tried in INT8 only on top of {below}, which is too much already"
        start = f"next to the chosen map {only}" if around.int8_layers else only
        reason = _from_trial(start, blocker, ReasonKind.BEHIND)
    else:
        return None
    cost = alone_cost(around, layer)
    if cost is None:
        return reason
    return Reason(reason.text, unique_numbers(*reason.trials, *cost.trials), reason.kind, cost.text)


def _from_trial(start: str, tried: MapTrial, kind: ReasonKind) -> Reason:
    kind = ReasonKind.FAILED if tried.has_failed else kind
    return Reason(tried.told(start), (tried.number,), kind)


def unique_numbers(*numbers: int) -> tuple[int, ...]:
    """Each once, in order."""
    return tuple(dict.fromkeys(numbers))


_BY_STRENGTH = (
    _nearest_within,
    _added,
    _alone,
    _also_within,
    _all_but,
    _subset,
    _cost_over,
    _with_others,
    alone_cost,
)


def reasons_of_selection(study: Study, selection: Selection) -> dict[str, Reason]:
    """`reasons_of` a selection, by its limits and the times that it was made on."""
    timings = None if selection.latency is None else selection.latency.timings
    return reasons_of(study, selection.trial, selection.limits, timings)


def reasons_of(
    study: Study, chosen: Trial, limits: Sequence[Limit], timings: Timings | None = None
) -> dict[str, Reason]:
    """The reason for each precision in the chosen trial's map, by layer name, in the study's order.

    `limits` are those of `qsens.selection.choose.limits_of`. A reason rests on the strongest evidence there
    is: the chosen map with the layer in INT8 too, the layer alone, all but the layer, parts of the chosen
    map with it; next to a chosen map without INT8, alone is the first of these. Trials on the few images of
    a screen count where none on all images tells. Costs are never added.
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
        return Reason(text, (chosen.number,), ReasonKind.NOT_AS_ASKED)
    if pinned := _pinned(layer):
        return pinned
    if runs is Precision.INT8:
        return _int8_reason(around, layer.name)
    reason = float_reason(around, layer.name)
    return _with_overflow(around, layer, reason) if runs is Precision.FP32 else reason


def _pinned(layer: Layer) -> Reason | None:
    if len(layer.allowed) > 1 and Precision.INT8 in layer.allowed:
        return None
    if layer.float_reason:
        return Reason(layer.float_reason, (), ReasonKind.PINNED)
    allowed = " or ".join(precision.upper() for precision in Precision if precision in layer.allowed)
    word = "pinned to" if len(layer.allowed) == 1 else "INT8 is not allowed here, only"
    return Reason(f"{word} {allowed}", (), ReasonKind.PINNED)


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
    text = f"FP16 cannot hold {values} there (trial {number}), so it is FP32"
    if reason.kind is not ReasonKind.UNTRIED:
        text += f"; in INT8: {reason}"
    return Reason(text, unique_numbers(number, *reason.trials), ReasonKind.OVERFLOW)


def _int8_reason(around: Neighbourhood, layer: str) -> Reason:
    alone = single_trial(around, layer, is_beyond=False)
    if alone is not None and alone.worst is not None:
        who = "alone" if len(alone.int8_layers) == 1 else f"{around.names(alone.int8_layers)} alone"
        return Reason(f"{who} {around.taken(alone, alone.worst)}", (alone.number,), ReasonKind.INT8)
    worst = max(around.checks.values(), key=lambda check: check.share, default=None)
    score = "" if worst is None else f": {worst}"
    return Reason(
        f"part of the chosen map (trial {around.chosen.number}){score}",
        (around.chosen.number,),
        ReasonKind.INT8,
    )

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
from qsens.selection.evidence_of_limits import MOST_NAMED, MapFacts, Reading, TriedMap
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


def float_reason(facts: MapFacts, place: int) -> Reason:
    """The reason that the layer at `place` is not in INT8, by the strongest evidence there is."""
    for find in _BY_STRENGTH:
        if reason := find(facts, place):
            return reason
    is_tried = any(tried.int8 >> place & 1 for tried in facts.tried)
    tail = " next to the INT8 layers of the chosen map" if is_tried and facts.int8 else ""
    return Reason(f"no trial tells: not tried in INT8{tail}", (), ReasonKind.UNTRIED)


def _nearest_within(facts: MapFacts, place: int) -> Reason | None:
    """The chosen map with only the layer, or it and some of its block, keeps the limits in INT8 too."""
    block = facts.block(place)
    near = (tried for tried in facts.supersets if tried.int8 >> place & 1 and not facts.more(tried) & ~block)
    tried = next(near, None)
    if tried is None or not tried.seems_within:
        return None
    return _seems_within(facts, tried) if tried.is_screen else _kept(facts, tried)


def _seems_within(facts: MapFacts, tried: TriedMap) -> Reason:
    assert tried.worst is not None, "a trial without a reading is not within"
    more = facts.more(tried)
    is_one = more.bit_count() == 1
    if facts.int8:
        start = f"with {'it' if is_one else facts.names(more)} in INT8 too"
    else:
        start = f"{'alone' if is_one else f'{facts.names(more)} alone'} in INT8"
    cost = tried.estimated(start) or f"{start} {facts.taken(tried, tried.worst)}"
    seems = f"{'it seems' if is_one else 'they seem'} to keep to the limit{_time_clause(facts, tried)}"
    return Reason(f"{cost}: {seems}; no full score was made", (tried.number,), ReasonKind.ALSO_WITHIN)


def _added(facts: MapFacts, place: int) -> Reason | None:
    """The chosen map with the layer in INT8 too, alone or with up to two others or some of its block."""
    tried = _nearest_beyond(facts, place)[0] if facts.int8 else None
    if tried is None:
        return None
    more = facts.more(tried)
    if more.bit_count() > MOST_NAMED and more & ~facts.block(place):
        return None
    who = "it" if more.bit_count() == 1 else facts.names(more)
    return _from_trial(f"with {who} in INT8 too", tried, ReasonKind.ADDED)


def _nearest_beyond(facts: MapFacts, place: int) -> tuple[TriedMap | None, TriedMap | None]:
    """The smallest superset with the layer that is beyond the limits and holds the layer responsible.

    Where every such map holds a smaller one that is beyond without the layer, that one comes second.
    """
    blocker = None
    for tried in facts.beyond:
        if not tried.int8 >> place & 1:
            continue
        found = _without(place, tried, facts.beyond)
        if found is None:
            return tried, None
        blocker = blocker or found
    return None, blocker


def _without(place: int, tried: TriedMap, others: Sequence[TriedMap]) -> TriedMap | None:
    """One of `others` whose INT8 layers are some of those of `tried`, not the one at `place` among them."""
    parts = (other for other in others if not other.int8 >> place & 1 and not other.int8 & ~tried.int8)
    return next(parts, None)


def _alone(facts: MapFacts, place: int) -> Reason | None:
    tried = single_trial(facts, place, is_beyond=True)
    if tried is None:
        return None
    who = "alone" if tried.int8.bit_count() == 1 else f"{facts.names(tried.int8)} alone"
    return _from_trial(f"{who} in INT8", tried, ReasonKind.ALONE)


def single_trial(facts: MapFacts, place: int, *, is_beyond: bool) -> TriedMap | None:
    """The trial with only the layer in INT8, else with only it and others of its block.

    Of those beyond the limits none counts that holds another one, beyond without the layer.
    """
    block = facts.block(place)
    of_block = [
        tried
        for tried in facts.tried
        if tried.is_beyond is is_beyond and tried.int8 and not tried.int8 & ~block
    ]
    found = [
        tried
        for tried in of_block
        if tried.int8 >> place & 1 and not (is_beyond and _without(place, tried, of_block))
    ]
    return min(found, key=lambda tried: (tried.int8.bit_count(), tried.is_screen, tried.number), default=None)


def _also_within(facts: MapFacts, place: int) -> Reason | None:
    """More INT8 keeps the limits too, which happens where maps are chosen by measured time."""
    found = (tried for tried in facts.supersets if tried.int8 >> place & 1)
    tried = next((tried for tried in found if not tried.is_beyond and not tried.is_screen), None)
    return None if tried is None else _kept(facts, tried)


def _kept(facts: MapFacts, tried: TriedMap) -> Reason:
    more = facts.more(tried)
    who = "it" if more.bit_count() == 1 else facts.names(more)
    start = f"with {who} in INT8{' too' if facts.int8 else ''} (trial {tried.number}) the limits are kept"
    text = f"{start}{_time_clause(facts, tried)}: {tried}"
    mine = None if tried.worst is None else _chosen_reading(facts, tried, tried.worst)
    text += "" if mine is None else f"; the chosen map has {mine.value:.4g}"
    return Reason(text, (tried.number,), ReasonKind.ALSO_WITHIN)


def _time_clause(facts: MapFacts, tried: TriedMap) -> str:
    if facts.timings is None:
        return ""
    mine, other = facts.timings.of(facts.chosen), facts.timings.of(tried.trial)
    if mine is None or other is None:
        return f", but it was not measured on {facts.timings.place}"
    word = "in" if other.ms < mine.ms and not other.is_as_fast_as(mine) else "but no faster:"
    shown = told_apart(other.ms, mine.ms)
    return f", {word} {shown[0]} ms instead of {shown[1]} ms"


def _all_but(facts: MapFacts, place: int) -> Reason | None:
    """The gain where only the layer, or it and others of its block, are spared of INT8 everywhere.

    Counted where the gain is more than an even share of the damage and more than its error.
    """
    everything = facts.everything
    if everything is None or everything.worst is None:
        return None
    block, metric = facts.block(place), everything.worst.limit.metric
    near = [tried for tried in facts.tried if metric in tried.readings and not facts.spared(tried) & ~block]
    for tried in sorted(near, key=lambda tried: (facts.spared(tried).bit_count(), tried.number)):
        spared = facts.spared(tried)
        if not spared >> place & 1:
            continue
        # what others of the block gain without this layer is not its own
        with_it = [other for other in near if not facts.spared(other) & ~(spared & ~(1 << place))]
        other = max(with_it, key=lambda other: facts.spared(other).bit_count(), default=everything)
        before, after = other.readings[metric], tried.readings[metric]
        if not _is_large(before, after, everything.worst.cost / facts.movable.bit_count()):
            continue
        text = _spared_text(facts, tried, other, metric)
        if everything.worst.cost > 0:
            share = (before.excess - after.excess) / everything.worst.cost
            text += f", {min(share, 1):.0%} of the damage"
        return Reason(text, (tried.number, other.number), ReasonKind.ALL_BUT)
    return None


def _is_large(before: Reading, after: Reading, even_share: float) -> bool:
    gain = before.excess - after.excess
    if not math.isfinite(gain) or before.is_screen is not after.is_screen:
        return False
    widths = [reading.half_width for reading in (before, after) if reading.half_width is not None]
    # decibels have no shares
    least = even_share if math.isfinite(even_share) else 0.0
    return gain > max(least, math.hypot(*widths), 0.0)


def _spared_text(facts: MapFacts, tried: TriedMap, other: TriedMap, metric: str) -> str:
    spared = facts.spared(tried)
    moved = spared & ~facts.spared(other)
    who = "it" if spared.bit_count() == 1 else facts.names(spared)
    with_whom = "it" if spared.bit_count() == 1 else facts.names(moved)
    shown = told_apart(tried.readings[metric].value, other.readings[metric].value)
    start = f"all but {who} in INT8 (trial {tried.number}): {metric} {shown[0]} instead of {shown[1]}"
    return f"{start} with {with_whom} in INT8{tried.readings[metric].place} (trial {other.number})"


def _subset(facts: MapFacts, place: int) -> Reason | None:
    """The layer with only some of the chosen map's INT8 layers is beyond the limits."""
    found = [
        tried
        for tried in facts.tried
        if tried.is_beyond and facts.more(tried) == 1 << place and tried.int8 & facts.int8
    ]
    if not found:
        return None
    tried = min(found, key=lambda tried: (tried.is_screen, tried.int8.bit_count(), tried.number))
    others = facts.names(tried.int8 & facts.int8)
    return _from_trial(f"in INT8 with {others} of the chosen map's INT8 layers", tried, ReasonKind.SUBSET)


def _cost_over(facts: MapFacts, place: int) -> Reason | None:
    """`alone_cost`, where the chosen map leaves less of the limit than that."""
    alone = single_trial(facts, place, is_beyond=False)
    worst = None if alone is None else alone.worst
    mine = None if alone is None or worst is None else _chosen_reading(facts, alone, worst)
    if alone is None or worst is None or mine is None or not worst.cost > 0:
        return None
    ratio = alone.ratio(worst.limit) or 1.0
    return alone_cost(facts, place) if ratio * (worst.cost + mine.cost) > worst.limit.points else None


def alone_cost(facts: MapFacts, place: int) -> Reason | None:
    """The cost of the layer at `place` alone, within the limits, beside the chosen map's.

    The two need not add. `None` where no trial tells.
    """
    tried = single_trial(facts, place, is_beyond=False)
    if tried is None or tried.worst is None:
        return None
    worst, mine = tried.worst, _chosen_reading(facts, tried, tried.worst)
    who = "alone" if tried.int8.bit_count() == 1 else f"{facts.names(tried.int8)} alone"
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
    text += f"; the chosen map (trial {facts.chosen.number}) {has}{there}"
    return Reason(text, unique_numbers(tried.number, facts.chosen.number), ReasonKind.COST)


def _chosen_reading(facts: MapFacts, tried: TriedMap, reading: Reading) -> Reading | None:
    """The chosen map's reading of the same metric, on the same images where it has one."""
    metric = reading.limit.metric
    return tried.on_screen.get(metric, facts.readings.get(metric))


def _with_others(facts: MapFacts, place: int) -> Reason | None:
    """Next to the chosen map the layer was tried with many others only, or on top of one that fails."""
    tried, blocker = _nearest_beyond(facts, place)
    if tried is not None:
        count = facts.more(tried).bit_count() - 1
        others = "everything else" if tried.int8 == facts.movable else f"{count} more"
        start = f"next to the chosen map tried in INT8 only with {others}"
        reason = _from_trial(start if facts.int8 else f"in INT8 with {others}", tried, ReasonKind.TOGETHER)
    elif blocker is not None:
        below = facts.names(facts.more(blocker))
        only = f"tried in INT8 only on top of {below}, which is too much already"
        start = f"next to the chosen map {only}" if facts.int8 else only
        reason = _from_trial(start, blocker, ReasonKind.BEHIND)
    else:
        return None
    cost = alone_cost(facts, place)
    if cost is None:
        return reason
    return Reason(reason.text, unique_numbers(*reason.trials, *cost.trials), reason.kind, cost.text)


def _from_trial(start: str, tried: TriedMap, kind: ReasonKind) -> Reason:
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
    limits = [selection.limit, *([] if selection.guard is None else [selection.guard])]
    timings = None if selection.latency is None else selection.latency.timings
    return reasons_of(study, selection.trial, limits, timings)


def reasons_of(
    study: Study, chosen: Trial, limits: Sequence[Limit], timings: Timings | None = None
) -> dict[str, Reason]:
    """The reason for each precision in the chosen trial's map, by layer name, in the study's order.

    `limits` are those of `qsens.selection.choose.limits_of`. A reason rests on the strongest evidence there
    is: the chosen map with the layer in INT8 too, the layer alone, all but the layer, parts of the chosen
    map with it; next to a chosen map without INT8, alone is the first of these. Trials on the few images of
    a screen count where none on all images tells. Costs are never added.
    """
    facts = MapFacts(study, chosen, tuple(limits), timings)
    return {layer.name: _reason(facts, place) for place, layer in enumerate(study.layers)}


def _reason(facts: MapFacts, place: int) -> Reason:
    layer, chosen = facts.study.layers[place], facts.chosen
    asked, runs = chosen.requested[layer.name], built_map(chosen)[layer.name]
    if asked is not runs and Precision.INT8 in (asked, runs):
        text = (
            f"the engine runs it in {runs.upper()} although {asked.upper()} was asked (trial {chosen.number})"
        )
        return Reason(text, (chosen.number,), ReasonKind.NOT_AS_ASKED)
    if pinned := _pinned(layer):
        return pinned
    if runs is Precision.INT8:
        return _int8_reason(facts, place)
    reason = float_reason(facts, place)
    return _with_overflow(facts, layer, reason) if runs is Precision.FP32 else reason


def _pinned(layer: Layer) -> Reason | None:
    if len(layer.allowed) > 1 and Precision.INT8 in layer.allowed:
        return None
    allowed = " or ".join(precision.upper() for precision in Precision if precision in layer.allowed)
    word = "pinned to" if len(layer.allowed) == 1 else "INT8 is not allowed here, only"
    return Reason(f"{word} {allowed}", (), ReasonKind.PINNED)


def _with_overflow(facts: MapFacts, layer: Layer, reason: Reason) -> Reason:
    """FP16 overflowed in a layer that is FP32, in front of why it is not INT8."""
    counts = {
        trial.number: count
        for trial in facts.study.trials
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


def _int8_reason(facts: MapFacts, place: int) -> Reason:
    alone = single_trial(facts, place, is_beyond=False)
    if alone is not None and alone.worst is not None:
        who = "alone" if alone.int8.bit_count() == 1 else f"{facts.names(alone.int8)} alone"
        return Reason(f"{who} {facts.taken(alone, alone.worst)}", (alone.number,), ReasonKind.INT8)
    worst = max(facts.readings.values(), key=lambda reading: reading.share, default=None)
    score = "" if worst is None else f": {worst}"
    return Reason(
        f"part of the chosen map (trial {facts.chosen.number}){score}",
        (facts.chosen.number,),
        ReasonKind.INT8,
    )

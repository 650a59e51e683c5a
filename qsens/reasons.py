"""Why each layer of a chosen map has its precision, from the trials of any strategy."""

from collections.abc import Sequence

from qsens.core.layer import Layer
from qsens.core.maps import built_map
from qsens.core.precision import Precision
from qsens.core.trial import Study, Trial
from qsens.map_facts import MapFacts
from qsens.reason import Reason, ReasonKind
from qsens.selection.budget import Limit
from qsens.selection.choose import Selection
from qsens.selection.reasons import float_reason, single_trial, unique_numbers
from qsens.selection.timings import Timings

__all__ = ["Reason", "ReasonKind", "reasons_of", "reasons_of_selection"]


def reasons_of_selection(study: Study, selection: Selection) -> dict[str, Reason]:
    """`reasons_of` a selection, by its limits and the times that it was made on."""
    limits = [selection.limit, *([] if selection.guard is None else [selection.guard])]
    timings = None if selection.latency is None else selection.latency.timings
    return reasons_of(study, selection.trial, limits, timings)


def reasons_of(
    study: Study, chosen: Trial, limits: Sequence[Limit], timings: Timings | None = None
) -> dict[str, Reason]:
    """Why each layer of the chosen trial's map has its precision, by layer name, in the study's order.

    `limits` are those of `qsens.selection.choose.limits_of`. A reason rests on the strongest evidence there is: the
    chosen map with the layer in INT8 too, the layer alone, all but the layer, parts of the chosen map with
    it; next to a chosen map without INT8, alone is the first of these. Trials on the few images of a screen
    count where none on all images tells. Costs are never added.
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

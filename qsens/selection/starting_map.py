"""The map that a run started from: whether it still holds, and what the choice changed of it."""

from collections.abc import Sequence

from qsens.core.maps import anchor_trial
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.start import StartingPoint
from qsens.core.trial import Outcome, Study, Trial
from qsens.selection.budget import Limit
from qsens.selection.choose import Selection
from qsens.selection.evidence_of_limits import Limits

MOST_NAMED = 6


def start_text(
    study: Study,
    start: StartingPoint,
    float_precision: Precision,
    limits: Sequence[Limit],
    selection: Selection | None,
) -> str | None:
    """Whether the map of the earlier run keeps the limits, with the layers that the choice moves.

    `None` where that map was not scored yet.

    `The map of yesterday still keeps jpeg:95: fid 30.4 ± 1.2, limit 34.5.`
    """
    wanted = start.map_over(study.layers, float_precision)
    trial = next((one for one in study.trials if one.requested == wanted and _is_told(one)), None)
    if trial is None:
        return None
    if trial.outcome is Outcome.FAILED:
        return f"The map of {start.run} cannot be scored here: {trial.error}"
    fp32 = anchor_trial(study, Precision.FP32)
    checks = Limits(tuple(limits), fp32).checks(trial.scores, is_screen=False).values()
    beyond = [check for check in checks if check.excess > 0]
    word = "no longer keeps" if beyond else "still keeps"
    told = "; ".join(map(str, beyond or checks))
    sentence = f"The map of {start.run} {word} {_allowed(limits)}: {told}."
    moves = [] if selection is None else _moves(study, wanted, selection.precision_map, is_held=not beyond)
    return " ".join([sentence, *moves])


def _is_told(trial: Trial) -> bool:
    return trial.outcome is not Outcome.SCREENED


def _allowed(limits: Sequence[Limit]) -> str:
    words = dict.fromkeys(str(limit.alteration) for limit in limits if limit.alteration is not None)
    return ", ".join(words) if words else "the budget"


def _moves(study: Study, before: PrecisionMap, after: PrecisionMap, *, is_held: bool) -> list[str]:
    """The layers that the choice has in another precision than the map of the earlier run."""
    names = [layer.name for layer in study.layers]
    back = [name for name in names if before[name] is Precision.INT8 is not after[name]]
    more = [name for name in names if after[name] is Precision.INT8 is not before[name]]
    floats = sorted({after[name].upper() for name in back})
    found = []
    if back:
        verb = "goes" if len(back) == 1 else "go"
        must = verb if is_held else "must go"
        found.append(f"{_named(back)} {must} back to {' and '.join(floats)}.")
    if more:
        found.append(f"{_named(more)} can run in INT8 too.")
    return found


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    noun = "Layer" if len(names) == 1 else "Layers"
    return f"{noun} {', '.join(names[:MOST_NAMED])}{more}"

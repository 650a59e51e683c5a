"""The answer of a run in one line: what stays in float, what runs in INT8, and what that costs."""

from collections.abc import Sequence

from qsens.core.metric_names import headline_metrics, short_name, shown_value
from qsens.core.precision import Precision
from qsens.core.schema import in_words
from qsens.core.trial import Study, Trial
from qsens.selection.budget import Limit
from qsens.selection.choose import Selection
from qsens.selection.yardsticks import ladder_of, place_of

MOST_NAMED = 6


def answer_text(study: Study, selection: Selection) -> str:
    """A line on a selected map, such as a person would give it.

    `Keep 1 of 5 layers in FP16: last. The other 4 run in INT8: 98 % of the MACs. It costs less than JPEG 98
    (psnr); allowed is JPEG 95.`
    """
    held = [layer for layer in study.layers if selection.precision_map[layer.name] is not Precision.INT8]
    floats = sorted({selection.precision_map[layer.name].upper() for layer in held})
    share = f"{100 * selection.int8_macs_share:.3g} % of the MACs"
    moved = len(study.layers) - len(held)
    if not held:
        kept = f"{'The one layer runs' if moved == 1 else f'All {moved} layers run'} in INT8: {share}."
    elif not moved:
        kept = f"Keep all {len(held)} layers in {in_words(floats)}: none runs in INT8."
    else:
        names = _named([layer.name for layer in held])
        rest = "The other one runs" if moved == 1 else f"The other {moved} run"
        kept = f"Keep {len(held)} of {len(study.layers)} layers in {in_words(floats)}: {names}. "
        kept += f"{rest} in INT8: {share}."
    return f"{kept} {_cost_text(study, selection.trial, selection.limits)}".rstrip()


def ship_command(run: str, target: str | None) -> str:
    """The command that exports the chosen map of a run, as `run` is typed; `target` is that of its sweep."""
    return f"qsens export {run}{'' if target else ' --for openvino'}"


def _named(names: Sequence[str]) -> str:
    if len(names) <= MOST_NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"


def _cost_text(study: Study, trial: Trial, limits: Sequence[Limit]) -> str:
    """The cost of a map in familiar alterations, or its score, and the limit in the words of its budget."""
    metric = limits[0].metric if limits else next(iter(headline_metrics(study.metrics)), "")
    score = trial.score(metric)
    if score is None:
        return ""
    place = place_of(score, ladder_of(study))
    value = f"{short_name(metric)} {shown_value(metric, score.value):.4g}"
    cost = f"It is at {value}" if place is None else f"It costs {place} ({value})"
    allowed = next(iter(limits), None)
    if allowed is None or allowed.is_open:
        return f"{cost}."
    if allowed.alteration is not None:
        return f"{cost}; allowed is {allowed.alteration.title}."
    word = "at most" if allowed.lower_is_better else "at least"
    return f"{cost}; allowed is {word} {allowed.threshold:.4g}."

"""The answer of a run in one line: what stays in float, what runs in INT8, and what that costs."""

from collections.abc import Sequence

from qsens.core.layer import Layer, blocks_of
from qsens.core.metric_names import headline_metrics, short_name, shown_value
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.targets import suggested_target
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
    kept = kept_text(study, selection.precision_map, selection.int8_macs_share)
    return f"{kept} {_cost_text(study, selection.trial, selection.limits)}".rstrip()


def kept_text(study: Study, precision_map: PrecisionMap, int8_share: float) -> str:
    """The layers that a map keeps in float, and the share of the work (0 to 1) that runs in INT8."""
    members = {
        precision: [layer for layer in study.layers if precision_map[layer.name] is precision]
        for precision in Precision
    }
    moved, total = len(members.pop(Precision.INT8)), len(study.layers)
    of_what = "the layers' MACs" if study.other_work else "the MACs"
    share = f"{100 * int8_share:.3g} % of {of_what}"
    if moved == total:
        return f"{'The one layer runs' if total == 1 else f'All {total} layers run'} in INT8: {share}."
    told, of_all = [], f" of {total} layers"
    for precision, layers in members.items():
        if layers:
            told.append(f"{len(layers)}{of_all} in {precision.upper()}: {named_layers(layers, study.layers)}")
            of_all = ""
    kept = f"Keep {'; '.join(told)}."
    if not moved:
        return f"{kept} None runs in INT8."
    rest = "The other one runs" if moved == 1 else f"The other {moved} run"
    return f"{kept} {rest} in INT8: {share}."


def ship_command(run: str, target: str | None) -> str:
    """The command that exports the chosen map of a run, as `run` is typed; `target` is that of its sweep."""
    return f"qsens export {run}{'' if target else f' --for {suggested_target()}'}"


def named_layers(members: Sequence[Layer], layers: Sequence[Layer]) -> str:
    """Names of layers; where they are many, the blocks that they are in, and how many of each."""
    if len(members) <= MOST_NAMED:
        return ", ".join(layer.name for layer in members)
    wanted = {layer.name for layer in members}
    names = []
    for block in blocks_of(layers):
        inside = sum(layer.name in wanted for layer in block.layers)
        if inside:
            part = "" if inside == len(block.layers) else f"{inside} of {len(block.layers)} in "
            names.append(f"{part}{block.name}")
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


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

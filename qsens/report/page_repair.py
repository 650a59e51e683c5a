"""The part of the report that says what repair bought: by stage, by map, by layer and by tensor."""

from collections.abc import Iterable, Sequence

from qsens.core.maps import int8_share
from qsens.core.metric_names import short_name
from qsens.core.trial import Study
from qsens.repair.effect import LayerEffect, RepairEffect, TensorEffect
from qsens.repair.repair import StageResult, summary_of
from qsens.report.figures.repair import decibels_of
from qsens.report.page_content import RepairContent
from qsens.report.page_tables import score_text, wide
from qsens.report.page_text import escape
from qsens.run.without_repair import ComparedMap

_LONGEST_LINE = 48
_INTRODUCTION = (
    "Before maps were tried, INT8 was made better. Errors are those of the pictures with INT8 everywhere, "
    "against FP32's, in decibels of the picture's variance (lower is better), on calibration samples that "
    "the stage was not fitted to; a stage that does not bring them down is not taken. The evaluation set is "
    "never looked at."
)


def repair_section(content: RepairContent, study: Study) -> str:
    """The section as HTML; empty where nothing was to be repaired, a sentence where too few samples were."""
    summary = summary_of(content.stages)
    if summary is None:
        return ""
    if all(stage.left_out for stage in content.stages):
        return f"<h2>What repair bought</h2><p>{escape(summary.text)}</p>"
    effect = content.effect
    return (
        f"<h2>What repair bought</h2><p>{_INTRODUCTION}</p>{_stage_table(content.stages)}"
        + (_map_table(content.compared, study) if content.compared else "")
        + ("" if effect is None else _layers(effect) + _tensors(effect.tensors))
    )


def _stage_table(stages: Sequence[StageResult]) -> str:
    measured = ("error before", "error after", "gain")
    heads = ("stage", "taken", *measured, "changed", "tries", "seconds", "left alone")
    rows = []
    for stage in stages:
        errors = [_error(error) for error in (stage.error_before, stage.error_after)]
        gain = "—" if stage.gain_db is None else _decibels(stage.gain_db)
        counts = (str(stage.changed), str(stage.tries or "—"), f"{stage.duration_s:.0f}")
        left = "; ".join(f"{name}: {reason}" for name, reason in stage.skipped)
        rows.append((stage.stage, "yes" if stage.is_taken else "no", *errors, gain, *counts, left))
    return _table(heads, rows)


def _map_table(compared: Sequence[ComparedMap], study: Study) -> str:
    heads = ("map", "INT8 MACs", "repair", *map(short_name, study.metrics))
    rows = [
        (
            found.title,
            f"{int8_share(study, found.repaired):.1%}",
            repair,
            *(score_text(trial.score(metric)) for metric in study.metrics),
        )
        for found in compared
        for repair, trial in (("yes", found.repaired), ("no", found.without))
    ]
    return (
        "<h3>The same maps without repair</h3><p>Scored on the same evaluation samples as all trials; they "
        f"are none themselves, and no choice sees them.</p>{_table(heads, rows)}"
    )


def _layers(effect: RepairEffect) -> str:
    """Each layer alone; those that cost most after repair first."""
    rows = [
        (entry.layer, _error(entry.before), _error(entry.after), _gain(entry))
        for entry in sorted(effect.layers, key=lambda entry: -entry.after)
    ]
    summary = f"Each layer alone in INT8, on {effect.pictures} of the samples held out"
    return _folded(summary, _table(("layer", "error before", "error after", "gain"), rows))


def _tensors(tensors: Sequence[TensorEffect]) -> str:
    if not tensors:
        return ""
    rows = [
        (
            entry.tensor,
            f"{entry.before:.4g}",
            f"{entry.after:.4g}",
            f"{entry.after / entry.before:.2f}x",
            entry.method or "—",
        )
        for entry in tensors
    ]
    heads = ("tensor", "range before", "range after", "width", "method that won")
    return _folded(f"Ranges of {len(rows)} tensors that changed", _table(heads, rows))


def _gain(entry: LayerEffect) -> str:
    if not entry.before or not entry.after:
        return "—"
    return _decibels(decibels_of(entry.before) - decibels_of(entry.after))


def _decibels(gain: float) -> str:
    return f"{gain:+.1f} dB"


def _error(error: float | None) -> str:
    """The error below the picture's own variance, in decibels, which gains are the differences of."""
    if error is None:
        return "—"
    return f"{decibels_of(error):.1f} dB" if error > 0 else "none"


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def _cell(text: str) -> str:
    """A cell; what would be a long line may break."""
    return f"<td{' class=text' if len(text) > _LONGEST_LINE else ''}>{escape(text)}</td>"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f'<th class="text">{escape(text)}</th>' for text in heads)
    cells = ("".join(map(_cell, row)) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return wide(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>", "Repair")

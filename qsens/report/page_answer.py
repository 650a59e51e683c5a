"""The answer of a run, at the top of its page: layers to keep, what that costs, why, and what to type."""

from collections.abc import Mapping, Sequence

from qsens.core.maps import anchor_trial, built_map, int8_share
from qsens.core.other_work import other_work_text
from qsens.core.precision import Precision
from qsens.core.trial import Study, Trial
from qsens.report.page_content import PageContent
from qsens.report.page_ladder import ladder_list
from qsens.report.page_text import WORDS, escape
from qsens.selection.answer import kept_text, named_layers
from qsens.selection.reason_groups import fold_reasons
from qsens.selection.reasons import Reason, ReasonKind
from qsens.selection.yardsticks import place_sentences

_MOST_NAMED = 8
# Why layers stay in float, for somebody who reads nothing else.
_IN_FLOAT = {
    ReasonKind.COSTLY: "with this in INT8 too, pictures are worse than the limit",
    ReasonKind.TOGETHER: "with all of this in INT8 too, pictures are worse than the limit",
    ReasonKind.CANNOT: "pinned, or the engine has no INT8 for this",
    ReasonKind.NOT_TRIED: "nothing was scored with this in INT8 too",
    ReasonKind.FREE: "the limit would hold with this in INT8 too",
}


def answer_section(content: PageContent) -> str:
    """The answer as HTML: a sentence, what it costs in familiar alterations, why, and the next command."""
    study, chosen = content.study, content.chosen
    if chosen is None:
        head, why = "<strong>No map has been chosen yet.</strong>", ""
    else:
        head = f"<strong>{escape(kept_text(study, built_map(chosen), int8_share(study, chosen)))}</strong>"
        why = _why(study, chosen, content.reasons)
    lines = [content.verdict] if content.verdict else []
    if study.other_work:
        lines.append(other_work_text(study.layers, study.other_work))
    scale = f"<p>{escape(' '.join(_on_a_scale(content)))}</p>{ladder_list(content)}"
    notes, command = _notes(content.notes), _command(content.command)
    return (
        f'<div class="answer">{head}{why}{scale}<p class="faint">{escape(" ".join(lines))}</p>'
        f"{command}{notes}</div>"
    )


def _on_a_scale(content: PageContent) -> list[str]:
    """Sentences on what INT8 everywhere, and the chosen map, cost in familiar alterations."""
    int8 = anchor_trial(content.study, Precision.INT8)
    others = [] if int8 is content.chosen else [("The chosen map", content.chosen)]
    return place_sentences(content.study, [("INT8 everywhere", int8), *others])


def _why(study: Study, chosen: Trial, reasons: Mapping[str, Reason]) -> str:
    """A word and a few more for layers that stay in float, with the whole reason on demand, each once."""
    shown = built_map(chosen)
    in_float = [layer for layer in study.layers if shown[layer.name] is not Precision.INT8]
    parts = []
    for kind, word in WORDS.items():
        alike = {
            layer.name: reasons[layer.name]
            for layer in in_float
            if layer.name in reasons and reasons[layer.name].kind is kind
        }
        if alike:
            named = named_layers([layer for layer in in_float if layer.name in alike], study.layers)
            prose = "".join(
                f"<p>{escape(group.names)}: {escape(group.text)}.</p>"
                for group in fold_reasons(study.layers, alike)
            )
            parts.append(
                f'<details class="why"><summary><b>{word}</b> {escape(named)}: {_IN_FLOAT[kind]}</summary>'
                f"{prose}</details>"
            )
    return "".join(parts)


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    texts = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return f"<details><summary>To know beside the choice ({len(notes)})</summary>{texts}</details>"


def _command(command: str) -> str:
    """The command that comes next, with a button that copies it where scripts run."""
    if not command:
        return ""
    return (
        f'<p class="command"><code>{escape(command)}</code>'
        '<button type="button" class="copy" hidden>Copy</button></p>'
    )

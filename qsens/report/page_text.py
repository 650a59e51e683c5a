"""Text in the page: what HTML would take for marks is escaped, and what nobody would see is shown."""

import html
from datetime import datetime

from qsens.device.visible_text import visible_text
from qsens.selection.reasons import Reason, ReasonKind

# One word for each kind of reason that a layer has its precision for.
WORDS = {
    ReasonKind.COSTLY: "costly",
    ReasonKind.TOGETHER: "with others",
    ReasonKind.CANNOT: "cannot",
    ReasonKind.NOT_TRIED: "untried",
    ReasonKind.FREE: "free",
}


def word_of(reason: Reason) -> str:
    """The word for a reason."""
    return WORDS[reason.kind]


def escape(text: str) -> str:
    r"""Text of anybody as HTML, in an element or in a quoted attribute.

    >>> escape("<b> \x1b[2J")
    '&lt;b&gt; \\x1b[2J'
    """
    return html.escape(visible_text(text))


def time_in_words(moment: datetime) -> str:
    """A moment as people write it.

    >>> time_in_words(datetime.fromisoformat("2026-11-28T21:11:52+00:00"))
    '28 November 2026, 21:11 UTC'
    """
    return f"{moment.day} {moment:%B %Y, %H:%M} {moment.tzname() or ''}".rstrip()

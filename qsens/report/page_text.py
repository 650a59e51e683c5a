"""Text in the page: what HTML would take for marks is escaped, and what nobody would see is shown."""

import html

from qsens.device.visible_text import visible_text


def escape(text: str) -> str:
    r"""Text of anybody as HTML, in an element or in a quoted attribute.

    >>> escape("<b> \x1b[2J")
    '&lt;b&gt; \\x1b[2J'
    """
    return html.escape(visible_text(text))

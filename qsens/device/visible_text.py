"""Text of other people as it may be shown: what steers a terminal, or is no character, becomes visible."""

from __future__ import annotations

import re

# Control characters, line and paragraph separators, marks that turn the direction of text, halves of a pair.
_UNSEEN = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_IN_NAMES = re.compile(f"[{_UNSEEN}]")
_IN_TEXT = re.compile(f"(?![\n\t])[{_UNSEEN}]")


def visible_name(name: str) -> str:
    r"""A name in one line, with every unseen character written as an escape.

    >>> visible_name("conv\x1b[2J\n"), visible_name("größe 1")
    ('conv\\x1b[2J\\n', 'größe 1')
    """
    return _IN_NAMES.sub(_escaped, name)


def visible_text(text: str) -> str:
    """The same of text that may hold several lines and tabs."""
    return _IN_TEXT.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")

"""Figures drawn as files, with the fonts of this machine that have the characters of their texts."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from qsens.core.errors import QsensWarning

NOT_DRAWN = (
    "boxes stand in figures for characters that no font of this machine has, as in Chinese, Japanese or "
    "Korean names; install a font that has them, such as Noto Sans CJK, and write the report again"
)
_MISSING = re.compile(r"Glyph (\d+) .* missing from")
# It has a box for every character that there is.
_BOXES = "Last Resort"


def file_of(figure: Figure, **options: Any) -> bytes:
    """The figure as a file; where its font misses characters, others of this machine help out.

    What none has is a box, and a `QsensWarning` says so.
    """
    engine = figure.get_layout_engine()
    content, missing = _drawn(figure, options)
    if missing:
        figure.set_layout_engine(engine)  # other fonts need other room
        for text in figure.findobj(Text):
            assert isinstance(text, Text)
            text.set_fontfamily([*text.get_fontfamily(), *_families_with(missing)])
        content, missing = _drawn(figure, options)
    if missing:
        warnings.warn(NOT_DRAWN, QsensWarning, stacklevel=2)
    return content


def _drawn(figure: Figure, options: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    """The file, and the characters that were missing."""
    file = io.BytesIO()
    with _missing_characters() as missing:
        figure.savefig(file, **options)
    return file.getvalue(), frozenset(missing)


@contextmanager
def _missing_characters() -> Iterator[set[int]]:
    """Collects what matplotlib would warn of, character by character; other warnings pass."""
    missing: set[int] = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", _MISSING.pattern)
        yield missing
    for warning in caught:
        found = _MISSING.match(str(warning.message))
        if found is None:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        else:
            missing.add(int(found[1]))


@lru_cache(maxsize=64)
def _families_with(characters: frozenset[int]) -> tuple[str, ...]:
    """Font families of this machine that together have as many of the characters as possible."""
    families: list[str] = []
    wanted = set(characters)
    for entry in font_manager.fontManager.ttflist:
        if not wanted:
            break
        if entry.style != "normal" or entry.name.startswith(_BOXES):
            continue
        try:
            held = wanted.intersection(FT2Font(entry.fname).get_charmap())
        except (OSError, RuntimeError):  # a font that is gone or damaged
            continue
        if held:
            wanted -= held
            families.append(entry.name)
    return tuple(dict.fromkeys(families))

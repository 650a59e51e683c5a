"""Text of other people, made visible: no control character is left, and all else stays as it was."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from qsens.device.visible_text import visible_name, visible_text

ANY = st.text(st.characters(exclude_categories=()))
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@given(ANY)
def test_no_control_character_is_left_and_the_rest_can_be_written(text):
    for shown, kept in ((visible_name(text), ""), (visible_text(text), "\n\t")):
        left = [one for one in shown if unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") or one in BIDI]
        assert set(left) <= set(kept)
        shown.encode()


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_text_without_control_characters_stays(text):
    assert visible_name(text) == visible_text(text) == text


def test_what_is_unseen_is_written_as_an_escape():
    assert visible_name("a\x1b[2Jb\r\n\0\udcff\u202e") == r"a\x1b[2Jb\r\n\x00\udcff\u202e"
    assert visible_text("a\tb\nc\r\x9b") == "a\tb\nc\\r\\x9b"

"""Patterns that find the clip in a file's name; a pattern of any kind comes to an end."""

import pytest

from qsens.calibration import clip_names
from qsens.calibration.clip_names import clips_by_pattern
from qsens.core.errors import SpecError

ENDLESS = "a" * 64 + "!"


def test_the_first_group_is_the_clip():
    names = ["anna_01.png", "anna_02.png", "bärbel_01.png"]
    assert list(clips_by_pattern(r"^(?!x)(.+?)_(?P<n>\d+)", names).values()) == ["anna", "anna", "bärbel"]


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", r"(?=(a+))*\1*b", "((a*)*)*b"])
def test_a_pattern_that_takes_for_ever_is_given_up(pattern, monkeypatch):
    monkeypatch.setattr(clip_names, "LONGEST_S", 0.5)
    with pytest.raises(SpecError) as raised:
        clips_by_pattern(pattern, [ENDLESS])
    assert repr(pattern) in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(", "unterminated"),
        ("a+", "no such group"),
        ("(a){99999999999999999999}", "repetition"),
        ("(" * 5000 + ")" * 5000, "clip pattern"),
        ("(b)", "finds no clip in 'a'"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_named(pattern, text):
    with pytest.raises(SpecError, match=text):
        clips_by_pattern(pattern, ["a"])

import pytest

from qsens.core.alterations import KINDS, Alteration, parse_alterations, title_of
from qsens.core.errors import SpecError


@pytest.mark.parametrize("text", ["jpeg:95", "noise:0.5", "blur:1", "brightness:0.99"])
def test_the_text_of_an_alteration_reads_back(text):
    assert str(Alteration.parse(f" {text} ")) == text


@pytest.mark.parametrize(
    "text", ["jpg:95", "jpeg", "95", "", "jpeg:0", "jpeg:101", "jpeg:9.5", "noise:nan", "blur:x"]
)
def test_what_is_no_alteration_is_refused_with_all_there_are(text):
    with pytest.raises(SpecError) as refused:
        Alteration.parse(text)

    assert all(f"{kind}:X" in refused.value.hint for kind in KINDS)


def test_a_slip_is_guessed():
    with pytest.raises(SpecError) as refused:
        Alteration.parse("jpg:95")

    assert "did you mean 'jpeg'" in refused.value.hint


def test_each_alteration_counts_once():
    assert parse_alterations(["jpeg:95", "jpeg:95.0", "noise:1"]) == (
        Alteration("jpeg", 95),
        Alteration("noise", 1),
    )


def test_what_a_later_version_calls_something_is_shown_as_it_is():
    assert title_of("jpeg:50") == "JPEG 50"
    assert title_of("film-grain:3") == "film-grain:3"

"""Names in any script: another font of the machine helps out, and what none has is said in one line."""

import warnings

import pytest
from matplotlib.text import Text

from qsens.cli.shown_text import said_warnings
from qsens.core.errors import QsensWarning
from qsens.report.figures.fonts import NOT_DRAWN
from qsens.report.figures.style import new_figure, render_png, render_svg

# A private character, which no font should have, and one that only fonts for formulas have.
NOWHERE, IN_ANOTHER = "\U000f1234", "\u24b6"


def figure_of(name):
    figure = new_figure(2, 2)
    axes = figure.subplots()
    axes.set_yticks([0, 1], [name, "plain"])
    axes.set_title(f"block {name}")
    return figure


@pytest.fixture
def heard():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def test_a_plain_name_keeps_its_font_and_nothing_is_said(heard):
    figure = figure_of("encoder.3")
    before = {text.get_text(): text.get_fontfamily() for text in figure.findobj(Text)}
    render_png(figure)
    after = {text.get_text(): text.get_fontfamily() for text in figure.findobj(Text)}
    assert all(after[text] == family for text, family in before.items() if text)
    assert heard == []


def test_characters_of_another_font_are_drawn_with_it(heard):
    figure = figure_of(IN_ANOTHER)
    assert render_png(figure) != render_png(figure_of(NOWHERE))
    families = [text.get_fontfamily() for text in figure.findobj(Text) if IN_ANOTHER in text.get_text()]
    assert families
    assert all(len(family) > 1 for family in families)
    assert [warning.category for warning in heard] == [QsensWarning]  # of the figure beside it


def test_characters_of_no_font_are_said_and_no_line_of_matplotlib_is_shown(heard):
    figure = figure_of(NOWHERE)
    assert render_png(figure).startswith(b"\x89PNG")
    assert render_svg(figure, "salt").startswith(b"<?xml")
    assert {(warning.category, str(warning.message)) for warning in heard} == {(QsensWarning, NOT_DRAWN)}


def test_the_command_line_says_it_once(capsys):
    with said_warnings():
        for name in (NOWHERE, NOWHERE * 2):
            render_png(figure_of(name))
        warnings.warn("of another kind", UserWarning, stacklevel=1)
    first, *others = capsys.readouterr().err.splitlines()
    assert first == f"Warning: {NOT_DRAWN}"
    assert not any(line.startswith("Warning:") for line in others)

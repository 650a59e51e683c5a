"""Reasons of many layers as a few lines."""

import pytest

from qsens.selection.reason_groups import MOST_GROUPS, fold_reasons
from qsens.selection.reasons import AFTER_REPAIR, Reason, ReasonKind
from qsens.testing import example_layers

LAYERS = example_layers(30)
NAMES = [layer.name for layer in LAYERS]


def reasons_at(texts, kind=ReasonKind.COSTLY):
    return {NAMES[place]: Reason(text, (place,), kind) for place, text in texts.items()}


def test_neighbours_with_equal_texts_share_a_line():
    reasons = reasons_at({2: "same", 3: "same", 4: "same", 6: "same", 7: "other"})
    reasons[NAMES[3]] = Reason("same", (3, 99), ReasonKind.COSTLY)
    groups = fold_reasons(LAYERS, reasons)
    assert [(group.names, group.text) for group in groups] == [
        (f"{NAMES[2]} to {NAMES[4]} (3 layers)", "same"),
        (NAMES[6], "same"),
        (NAMES[7], "other"),
    ]
    assert groups[0].layers == tuple(NAMES[2:5])
    assert groups[0].trials == (2, 3, 4, 99)


def test_too_many_lines_are_folded_by_kind():
    texts = {place: f"alone (trial {place})" for place in range(12)}
    groups = fold_reasons(LAYERS, {**reasons_at(texts), **reasons_at({12: "no trial"}, ReasonKind.NOT_TRIED)})
    assert [group.names for group in groups] == [f"{NAMES[0]} to {NAMES[11]} (12 layers)", NAMES[12]]
    assert groups[0].text.endswith("beside the chosen map's in INT8 (trials 0, 1, 2, 3, 4 and 7 more)")
    assert groups[1].text == "no trial"


def test_a_fold_of_layers_that_stay_costly_after_repair_says_so():
    texts = {place: f"{AFTER_REPAIR}: alone (trial {place})" for place in range(12)}
    (group,) = fold_reasons(LAYERS, reasons_at(texts))
    assert group.text.startswith("costly even after repair: each is too much with no other layer beside")


def test_layers_apart_from_each_other_are_folded_by_kind_too():
    groups = fold_reasons(LAYERS, reasons_at({place: f"text {place}" for place in range(0, 30, 2)}))
    assert [group.names for group in groups] == [f"{NAMES[0]}, {NAMES[2]}, {NAMES[4]}, 12 more"]


@pytest.mark.parametrize("kind", ReasonKind)
def test_every_kind_has_words_for_several_layers(kind):
    groups = fold_reasons(LAYERS, reasons_at({place: f"text {place}" for place in range(30)}, kind))
    assert len(groups) == 1
    assert "text" not in groups[0].text


def test_at_most_as_many_lines_as_there_are_kinds():
    reasons = {}
    for place, name in enumerate(NAMES):
        kind = list(ReasonKind)[place % 5]
        reasons[name] = Reason(f"{kind} {place}", (place,), kind)
    assert len(fold_reasons(LAYERS, reasons)) == 5 < MOST_GROUPS
    assert fold_reasons(LAYERS, {}) == ()

"""Shares of all the work of a network, in words and in a table."""

import pytest

from qsens.core.errors import RunFolderError
from qsens.core.other_work import (
    OtherWork,
    of_all_work,
    other_work_from_csv,
    other_work_text,
    other_work_to_csv,
    share_in_layers,
)
from qsens.testing import example_layers

LAYERS = example_layers(4)
MACS = sum(layer.macs for layer in LAYERS)
OTHER = (OtherWork("mod", "Conv", 3 * MACS, 'its weights, "all"'), OtherWork("loop/mm", "MatMul", 0, "open"))


def test_the_share_of_all_work_follows_from_both():
    assert share_in_layers(LAYERS, OTHER) == pytest.approx(0.25)
    assert of_all_work(0.5, LAYERS, OTHER) == " (12.5% of all work)"
    text = other_work_text(LAYERS, OTHER)
    assert text.startswith("75.0% of all multiply-accumulates are in no layer")
    assert "mod (Conv, 75.0%)" in text
    assert text.endswith("the sizes of 1 are not known.")


def test_nothing_is_said_where_all_work_is_in_layers():
    assert (share_in_layers(LAYERS, ()), of_all_work(0.5, LAYERS, ()), other_work_text(LAYERS, ())) == (
        1.0,
        "",
        "",
    )


def test_the_table_reads_back():
    assert other_work_from_csv(other_work_to_csv(OTHER), "other_work.csv") == OTHER


@pytest.mark.parametrize("text", ["name,kind\na,b\n", "name,kind,macs,reason\na,Conv,-3,x\n"])
def test_a_damaged_table_is_named(text):
    with pytest.raises(RunFolderError, match=r"other_work\.csv is damaged"):
        other_work_from_csv(text, "other_work.csv")

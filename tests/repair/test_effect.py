"""What a repair changed, for people: measured on samples held out, kept, and none where nothing changed."""

from dataclasses import replace

import pytest
from test_stages import made, said, setup, subject  # noqa: F401  (fixtures)

from qsens.repair.effect import effect_of, read_effect
from qsens.repair.repair import Repair


def test_each_layer_and_each_changed_range_is_there_before_and_after(setup, made, tmp_path):  # noqa: F811
    repair, _ = made
    path = tmp_path / "effect.json"
    effect = effect_of(subject(setup), repair, path)
    assert [entry.layer for entry in effect.layers] == [layer.name for layer in setup.plan.graph.layers]
    assert sum(entry.after for entry in effect.layers) < sum(entry.before for entry in effect.layers)
    assert {entry.tensor: entry.after for entry in effect.tensors} == pytest.approx(dict(repair.amax))
    assert {entry.tensor: entry.before for entry in effect.tensors} == pytest.approx(
        {entry.tensor: entry.amax for entry in setup.ranges.tensors if entry.tensor in repair.amax}
    )
    assert all(entry.method for entry in effect.tensors)
    assert read_effect(path) == effect
    # It is read again for the same repair, and measured for another.
    assert effect_of(replace(subject(setup), samples=()), repair, path) == effect
    assert effect_of(subject(setup), replace(repair, digest="other"), path).key == "other"


def test_a_repair_that_changed_nothing_has_no_effect(setup, tmp_path):  # noqa: F811
    assert effect_of(subject(setup), Repair("digest"), tmp_path / "effect.json") is None
    assert read_effect(tmp_path / "effect.json") is None

"""Targets: declared by backends, found by name."""

import re

import pytest

from qsens.cli.options import TARGETS_TEXT
from qsens.core import targets
from qsens.core.errors import PluginError, SpecError
from qsens.core.spec import SweepSpec, spec_from_values
from qsens.core.targets import Target, declared_targets, target_named


def test_help_texts_name_the_targets_of_the_built_in_backends():
    assert set(re.findall(r"[a-z-]{3,}", TARGETS_TEXT)) == set(declared_targets())


def test_a_backend_of_a_plug_in_adds_its_target_and_a_broken_one_adds_none(monkeypatch):
    class Acme:
        targets = (Target("acme", "acme", "Acme 1", "u8", 60.0, "`pip install acme`", "{feeds}"),)

    def load(group, name):
        if name == "broken":
            raise PluginError("no module", "install it")
        return Acme if name == "acme" else type("Plain", (), {})

    monkeypatch.setattr(targets, "names", lambda group: ("acme", "broken", "plain"))
    monkeypatch.setattr(targets, "load_plugin", load)
    assert {name: entry.backend for name, entry in declared_targets().items()} == {"acme": "acme"}
    assert target_named("acme").target.title == "Acme 1"
    with pytest.raises(SpecError, match="no target named 'acm'") as caught:
        target_named("acm")
    assert "did you mean 'acme'?" in caught.value.hint


@pytest.mark.parametrize(
    ("values", "placement"),
    [
        ({}, SweepSpec().placement),
        ({"target": "openvino"}, SweepSpec().placement),
        ({"target": "onnxruntime"}, "kernels"),
        ({"target": "onnxruntime", "placement": "inputs"}, "inputs"),
    ],
)
def test_the_placement_fits_the_target_unless_it_is_stated(values, placement):
    assert spec_from_values(values, "test").placement == placement


def test_a_run_for_no_target_has_the_digest_that_it_had_before_there_were_targets():
    assert "target" not in SweepSpec().to_mapping()
    assert SweepSpec(target="openvino").digest != SweepSpec().digest

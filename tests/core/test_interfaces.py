"""Defaults of the contracts: what lacks a member is given it, what has one keeps it."""

from types import MappingProxyType

import pytest

from qsens.core.errors import PluginError
from qsens.core.interfaces import (
    Backend,
    Engine,
    Generator,
    Metric,
    MetricFacts,
    SampleSet,
    Strategy,
)
from qsens.core.plugins import with_defaults

DEFAULTS = {
    Generator: {"layer_blocks": {}, "definition_order": (), "output": None, "notice": None},
    Engine: {"audit": (), "device_engine": None},
    Metric: {"needs_annotations": (), "facts": MetricFacts()},
    Strategy: {"keeps_to_budget": True, "members": ()},
}
CALLS = {
    SampleSet: ("annotation", (3,), {}),
    Backend: ("reusing", (None,), None),
    Strategy: ("explain_search", ((), ()), ()),
}


def plain(slots=()):
    """An object of a class of its own that knows no contract."""
    return type("Plain", (), {"__slots__": slots})()


@pytest.mark.parametrize(
    ("contract", "name", "value"),
    [(contract, *pair) for contract, pairs in DEFAULTS.items() for pair in pairs.items()],
)
def test_what_lacks_a_member_has_its_default(contract, name, value):
    assert getattr(with_defaults(contract, plain()), name) == value


@pytest.mark.parametrize(("contract", "call"), CALLS.items())
def test_what_lacks_a_method_has_its_default(contract, call):
    name, arguments, answer = call
    assert getattr(with_defaults(contract, plain()), name)(*arguments) == answer


@pytest.mark.parametrize("contract", [Generator, SampleSet, Engine, Backend, Metric, Strategy])
def test_what_has_no_default_is_not_made_up(contract):
    made = with_defaults(contract, plain())
    assert contract.__abstractmethods__
    assert not [name for name in contract.__abstractmethods__ if name in vars(type(made))]


def test_a_member_of_the_object_or_its_class_is_kept():
    class Own:
        layer_blocks = MappingProxyType({"a": "A"})

        def __init__(self):
            self.notice = "for research only"

    made = with_defaults(Generator, Own())
    assert (made.layer_blocks, made.notice, made.definition_order) == ({"a": "A"}, "for research only", ())


def test_a_property_that_fails_is_not_read_before_it_is_asked_for():
    class WithoutGpu:
        @property
        def device_engine(self):
            raise OSError("no GPU")

    made = with_defaults(Engine, WithoutGpu())
    assert made.audit == ()
    with pytest.raises(OSError, match="no GPU"):
        _ = made.device_engine


def test_a_value_that_nothing_can_be_added_to_is_named():
    with pytest.raises(PluginError, match="the strategy 5 does not say its keeps_to_budget") as caught:
        with_defaults(Strategy, 5)
    assert "inherits qsens.core.interfaces.Strategy" in caught.value.hint

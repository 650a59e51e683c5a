"""Every installed metric keeps its contract with its default options."""

from functools import partial

import pytest

from qsens.core import plugins
from qsens.core.errors import PluginError
from qsens.testing import ExampleSamples, check_metric

NAMES = plugins.names("metrics")


def created(name):
    try:
        plugins.load_plugin("metrics", name)
    except PluginError as error:
        pytest.skip(error.message)
    missing = plugins.machine_problem("metrics", name)
    if missing:
        pytest.skip(missing)
    return plugins.create("metrics", name, {})


@pytest.mark.parametrize("name", NAMES)
def test_the_metric_keeps_its_contract(name):
    make = partial(created, name)
    missing = set(getattr(make(), "needs_annotations", ())) - ExampleSamples().annotation(0).keys()
    if missing:
        pytest.skip(f"reads {', '.join(sorted(missing))} of the samples: its own tests check the contract")
    check_metric(make)


@pytest.mark.parametrize("name", NAMES)
def test_the_metric_carries_its_entry_point_name(name):
    assert created(name).name == name

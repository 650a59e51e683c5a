"""Every installed metric keeps its contract with its default options."""

from functools import partial

import pytest

from qsens.core import plugins
from qsens.testing import ExampleSamples, check_metric

NAMES = [
    record.name for record in plugins.list_plugins() if record.group == "metrics" and record.problem is None
]


@pytest.mark.parametrize("name", NAMES)
def test_the_metric_keeps_its_contract(name):
    make = partial(plugins.create, "metrics", name, {})
    missing = set(getattr(make(), "needs_annotations", ())) - ExampleSamples().annotation(0).keys()
    if missing:
        pytest.skip(f"reads {', '.join(sorted(missing))} of the samples: its own tests check the contract")
    check_metric(make)


@pytest.mark.parametrize("name", NAMES)
def test_the_metric_carries_its_entry_point_name(name):
    assert plugins.create("metrics", name, {}).name == name

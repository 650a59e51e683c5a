"""Every installed metric keeps its contract with its default options."""

from functools import partial

import pytest

from qsens import plugins
from qsens.testing import check_metric

NAMES = [
    record.name for record in plugins.list_plugins() if record.group == "metrics" and record.problem is None
]


@pytest.mark.parametrize("name", NAMES)
def test_the_metric_keeps_its_contract(name):
    check_metric(partial(plugins.create, "metrics", name, {}))


@pytest.mark.parametrize("name", NAMES)
def test_the_metric_carries_its_entry_point_name(name):
    assert plugins.create("metrics", name, {}).name == name

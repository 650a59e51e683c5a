"""Own metrics and strategies by `module:Class` or as objects, and what is said where they fail."""

import sys

import pytest

from qsens.core import plugins
from qsens.core.errors import SpecError
from qsens.core.interfaces import MetricFacts
from qsens.core.metric_names import facts_of
from qsens.core.own_code import failure_in_own_code, is_reference, lending, name_of_own, use_own_code

MODULE = """
class Loudness:
    name = "loudness"
    lower_is_better = True
    needs_features = False
    needs_reference = False

    def __init__(self, *, gain=1):
        self.gain = gain

    def label(self, context):
        return self.name

    def start(self, context):
        return 1 / (self.gain - 1)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "acme_own.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "acme_own", raising=False)
    use_own_code("metrics", "acme_own:Loudness", "acme_own:Loudnes")
    return "acme_own:Loudness"


def test_a_class_is_made_by_its_name_with_its_contracts_defaults(own):
    made = plugins.create("metrics", own, {"gain": 3})
    assert (made.gain, tuple(made.needs_annotations)) == (3, ())
    assert name_of_own(type(made)) == (own, {})


def test_an_object_stands_for_its_name_where_it_was_lent(own):
    loud = plugins.load_plugin("metrics", own)(gain=7)
    name, lent = name_of_own(loud)
    with lending(lent):
        assert plugins.create("metrics", name, {}) is loud
    with pytest.raises(SpecError, match="was given as an object from Python"):
        plugins.create("metrics", name, {})


def test_a_wrong_name_gets_the_closest_one(own):
    with pytest.raises(SpecError, match="has no 'Loudnes'") as caught:
        plugins.load_plugin("metrics", own[:-1])
    assert caught.value.hint == "did you mean 'Loudness'?"
    assert not any(map(is_reference, ("fid", "boundary+ends")))


def test_a_failure_is_said_with_its_own_line_alone(own):
    made = plugins.create("metrics", own, {})
    calling = compile("def ours(call): call()", "qsens/loop.py", "exec")
    names = {"__name__": "qsens.loop"}
    exec(calling, names)
    with pytest.raises(ZeroDivisionError) as caught:
        names["ours"](lambda: made.start(None))
    failure = failure_in_own_code(caught.value)
    assert "division by zero" in failure.message
    assert "return 1 / (self.gain - 1)" in failure.message
    assert "loop.py" not in failure.message
    assert failure_in_own_code(ValueError("of nobody")) is None


@pytest.mark.parametrize(("group", "name"), [("sets", "acme_own:Loudness"), ("metrics", "acme_own:Other")])
def test_code_that_only_a_file_names_is_refused(own, group, name):
    """A set's manifest names its opener, a journal its scores, a spec what made a run that is looked at."""
    with pytest.raises(SpecError, match="is code, and only a sweep"):
        plugins.load_plugin(group, name)
    assert facts_of("acme_own:Other[lite0]") == MetricFacts()
    assert "acme_own" not in sys.modules

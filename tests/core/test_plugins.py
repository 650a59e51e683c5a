"""Finding and loading plug-ins, with real distributions on the path."""

import shutil
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from qsens.core import plugins
from qsens.core.errors import PluginError, SpecError

ROOT = Path(__file__).parents[2]
MODULE = """
from qsens.core.interfaces import Metric

class Ends:
    def __init__(self, *, by="layer", step=1):
        self.by, self.step = by, step

class Needs:
    def __init__(self, *, teacher):
        self.teacher = teacher

def open_file(checkpoint, *, width=8):
    return checkpoint, width

def anything(**options):
    return options

class Slotted:
    __slots__ = ()
    name = "slotted"

    def propose(self, layers, trials):
        return []

class Searching:
    def __init__(self):
        self.keeps_to_budget = False

    def explain_search(self, layers, trials):
        return ["searched"]

class Inheriting(Metric):
    name = "inheriting"

    def label(self, context):
        return self.name

    def start(self, context):
        return None
"""


def test_a_plugin_of_another_distribution_is_found_and_made(install):
    install("acme", "strategies", {"acme-ends": "acme_one:Ends"}, {"acme_one": MODULE})
    assert "acme-ends" in plugins.names("strategies")
    assert plugins.create("strategies", "acme-ends", {"step": 3}).step == 3
    assert plugins.option_names("strategies", "acme-ends") == ("by", "step")


def test_what_is_installed_or_removed_later_is_noticed(install, tmp_path):
    install("acme", "strategies", {"acme-ends": "acme_one:Ends"})
    assert "acme-ends" in plugins.names("strategies")
    install("apex", "strategies", {"apex-ends": "acme_one:Ends"})
    assert {"acme-ends", "apex-ends"} <= set(plugins.names("strategies"))
    shutil.rmtree(tmp_path / "acme-1.0.dist-info")
    assert "acme-ends" not in plugins.names("strategies")


def test_what_is_installed_is_read_once_for_all_groups(monkeypatch):
    read = []
    monkeypatch.setattr("qsens.core.plugins._state_of_path", lambda: (("read once", 0, 0),))
    monkeypatch.setattr("qsens.core.plugins.entry_points", lambda **some: read.append(some) or entry_points())
    assert all(plugins.names(group) for group in ("backends", "metrics", "strategies"))
    assert len(read) == 1


def test_positional_arguments_are_no_options(install):
    install("acme", "distillers", {"acme-file": "acme_two:open_file"}, {"acme_two": MODULE})
    assert plugins.create("distillers", "acme-file", {"width": 4}, "g.onnx") == ("g.onnx", 4)
    with pytest.raises(SpecError, match="no option 'checkpoint'"):
        plugins.create("distillers", "acme-file", {"checkpoint": "x"}, "g.onnx")


def test_an_unknown_option_names_the_allowed_ones(install):
    install("acme", "strategies", {"acme-ends": "acme_three:Ends"}, {"acme_three": MODULE})
    with pytest.raises(SpecError, match="strategy 'acme-ends' has no option 'steps'") as caught:
        plugins.create("strategies", "acme-ends", {"steps": 3})
    assert "did you mean 'step'?" in caught.value.hint
    assert "by, step" in caught.value.hint


def test_a_missing_option_is_named(install):
    install("acme", "distillers", {"acme-needs": "acme_four:Needs"}, {"acme_four": MODULE})
    with pytest.raises(SpecError, match="needs the option 'teacher'"):
        plugins.create("distillers", "acme-needs", {})


def test_a_plugin_that_takes_any_option_gets_it(install):
    install("acme", "distillers", {"acme-any": "acme_five:anything"}, {"acme_five": MODULE})
    assert plugins.create("distillers", "acme-any", {"a": 1}) == {"a": 1}


def test_a_plugin_that_does_not_inherit_its_contract_has_its_defaults(install):
    install("acme", "strategies", {"acme-slotted": "acme_seven:Slotted"}, {"acme_seven": MODULE})
    made = plugins.create("strategies", "acme-slotted", {})
    assert (made.keeps_to_budget, made.members) == (True, ())
    assert made.explain_search((), ()) == ()
    assert made.propose((), ()) == []


def test_what_a_plugin_says_itself_is_kept(install):
    install("acme", "strategies", {"acme-searching": "acme_eight:Searching"}, {"acme_eight": MODULE})
    made = plugins.create("strategies", "acme-searching", {})
    assert (made.keeps_to_budget, made.members) == (False, ())
    assert made.explain_search((), ()) == ["searched"]
    assert not hasattr(made, "propose"), "what has no default must come from the plug-in"


def test_a_plugin_that_inherits_its_contract_and_has_no_constructor_has_no_options(install):
    install("acme", "metrics", {"acme-inherits": "acme_nine:Inheriting"}, {"acme_nine": MODULE})
    assert plugins.create("metrics", "acme-inherits", {}).needs_annotations == ()
    assert plugins.option_names("metrics", "acme-inherits") == ()
    with pytest.raises(SpecError, match="has no option 'scale'"):
        plugins.create("metrics", "acme-inherits", {"scale": 2})


def test_a_plugin_that_cannot_have_defaults_is_named(install):
    install("acme", "generators", {"acme-tuple": "acme_ten:open_file"}, {"acme_ten": MODULE})
    with pytest.raises(PluginError, match="does not say its layer_blocks") as caught:
        plugins.create("generators", "acme-tuple", {}, "g.onnx")
    assert "inherits qsens.core.interfaces.Generator" in caught.value.hint


@pytest.mark.parametrize(("options", "step"), [({}, 7), ({"step": 3}, 3)])
def test_a_value_of_the_run_goes_where_an_option_takes_it(options, step, install):
    install("acme", "strategies", {"acme-ends": "acme_eleven:Ends"}, {"acme_eleven": MODULE})
    made = plugins.create("strategies", "acme-ends", options, offered={"step": 7, "threads": 2})
    assert made.step == step


def test_an_unknown_name_gives_the_closest_and_speaks_of_reinstalling():
    with pytest.raises(SpecError, match="no strategy named 'boundaryy'") as caught:
        plugins.load_plugin("strategies", "boundaryy")
    assert "did you mean 'boundary'?" in caught.value.hint
    assert "installed again" in caught.value.hint


def test_a_name_close_to_none_lists_all():
    with pytest.raises(SpecError) as caught:
        plugins.load_plugin("backends", "xyzzy")
    assert "onnxruntime" in caught.value.hint


BROKEN = {
    "needs_torch": ("import torch_is_absent_here", "torch_is_absent_here", "holds the module"),
    "bad_syntax": ("def broken(:", "SyntaxError", "again"),
    "raises": ("raise RuntimeError('no device')", "no device", "again"),
    "wrong_name": ("", "Plugin", "again"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_says_why_when_used_and_is_listed(install, case):
    text, reason, hint = BROKEN[case]
    module = f"acme_broken_{case}"
    install("acme", "backends", {"acme-broken": f"{module}:Plugin"}, {module: text})
    with pytest.raises(PluginError, match=reason) as caught:
        plugins.load_plugin("backends", "acme-broken")
    assert hint in caught.value.hint
    record = next(entry for entry in plugins.list_plugins() if entry.name == "acme-broken")
    assert reason in record.problem
    assert record.distribution == "acme"


def test_a_missing_library_of_a_builtin_names_the_extra():
    hint = plugins.hint_for_missing_module("torch")
    assert hint.startswith("pip install 'qsens[torch]' -c constraints.txt")


def test_two_distributions_with_one_name_are_both_named(install):
    install("acme", "backends", {"same": "acme_six:Ends"}, {"acme_six": MODULE})
    install("other", "backends", {"same": "acme_six:Needs"})
    with pytest.raises(PluginError, match=r"acme and other|other and acme"):
        plugins.load_plugin("backends", "same")
    problems = [entry.problem for entry in plugins.list_plugins() if entry.name == "same"]
    assert len(problems) == 2
    assert all("claimed by" in problem for problem in problems)


def test_the_installed_tables_are_those_of_the_project_file():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    assert set(declared) == {f"qsens.{group}" for group in plugins.GROUPS}
    for group, table in declared.items():
        installed = {
            entry.name: entry.value for entry in entry_points(group=group) if entry.dist.name == "qsens"
        }
        assert installed == table, f"install qsens again: {group} changed"


def test_numbers_are_checked_by_their_annotations():
    with pytest.raises(SpecError, match="has points='many', which is no whole number") as caught:
        plugins.create("strategies", "additive", {"points": "many"})
    assert caught.value.hint == "write points=NUMBER"
    assert plugins.create("strategies", "guided", {"least_saving": 1}).goal.least_saving == 1
    assert plugins.create("strategies", "guided", {"budget": 2.0}).budget.amount == 2.0
    assert plugins.create("strategies", "guided", {"least_saving": None}).goal.least_saving is None

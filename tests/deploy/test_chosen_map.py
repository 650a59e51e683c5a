"""The map that is exported is one that was scored."""

import json
from dataclasses import replace

import pytest
from lowered_models import FP16, FP32, INT8

from qsens.cli.select import select
from qsens.core.errors import SpecError
from qsens.core.precision import PrecisionMap
from qsens.core.schema import check_schema
from qsens.core.trial import Outcome
from qsens.deploy.chosen_map import map_of_trial, map_to_ship, selected_map
from qsens.run.paths import RunPaths
from qsens.run.reopen import reopen_run
from qsens.selection.precision_map_file import read_precision_map
from qsens.testing import example_layers, example_trial


@pytest.fixture
def run(project):
    return reopen_run(project / "run")


def choose(run, budget="20"):
    select.callback(run.path, budget=budget, guard=None, metric=None, as_json=False, write=True, **NO_LATENCY)


NO_LATENCY = {
    parameter.name: parameter.default if parameter.multiple else None
    for parameter in select.params
    if parameter.name not in ("run", "budget", "guard", "metric", "as_json", "write")
}


def test_the_selected_map_is_taken_with_its_document(run):
    choose(run)
    chosen = selected_map(run)
    assert chosen.precision_map == PrecisionMap(INT8)
    assert chosen.trial.number == 2
    path = RunPaths(run.path).precision_map_path
    assert chosen.document == dict(read_precision_map(path).document)


def test_without_a_selection_the_user_is_told_to_select(run):
    with pytest.raises(SpecError, match="has been selected") as caught:
        selected_map(run)
    assert "qsens select" in caught.value.hint
    assert "--trial" in caught.value.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [("trial", 1), ("trial", 99), ("spec_digest", "0" * 16), ("precision_map", {"default": "fp16"})],
)
def test_a_file_that_select_did_not_write_of_this_run_is_refused(run, key, value):
    choose(run)
    path = RunPaths(run.path).precision_map_path
    document = json.loads(path.read_text())
    document[key] = {"overrides": {}, **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(document))
    with pytest.raises(SpecError, match="does not hold the map of trial"):
        selected_map(run)


def test_a_named_trial_gets_a_document_of_the_published_form(run):
    chosen = map_of_trial(run, 1)
    assert chosen.precision_map == PrecisionMap(FP16)
    check_schema(chosen.document, "precision_map", "document")
    assert chosen.document["trial"] == 1
    assert chosen.document["budget"]["text"] == "none: trial 1 was named"


def test_trials_that_are_not_there_or_failed_are_refused(run):
    with pytest.raises(SpecError, match="has no trial 99"):
        map_of_trial(run, 99)
    failed = replace(run.study.trials[1], outcome=Outcome.FAILED, scores=(), applied=None, error="no kernel")
    study = replace(run.study, trials=(run.study.trials[0], failed))
    with pytest.raises(SpecError, match="trial 1 failed: no kernel"):
        map_of_trial(replace(run, study=study), 1)


def test_what_ships_is_what_ran_in_int8_and_the_float_that_was_asked_for():
    layers = example_layers(4)
    names = [layer.name for layer in layers]
    asked = PrecisionMap.over(dict(zip(names, (INT8, INT8, FP16, FP32), strict=True)))
    # An engine of a CPU: no FP16, and no INT8 kernel for the second layer.
    applied = PrecisionMap.over(dict(zip(names, (INT8, FP32, FP32, FP32), strict=True)))
    trial = replace(example_trial(3, asked, layers), applied=applied)
    shipped = map_to_ship(trial, layers, "fp16").assignment(names)
    assert list(shipped.values()) == [INT8, FP16, FP16, FP32]

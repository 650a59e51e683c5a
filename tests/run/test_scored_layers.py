"""Layers that reach no scored output are held in float, unless somebody says otherwise."""

import json
from dataclasses import replace

import numpy as np
import pytest
from onnx import helper
from tiny_models import normal, onnx_model
from tiny_photos import write_photos
from tiny_sweeps import score_run

from qsens.api import score_maps
from qsens.core.errors import SpecError
from qsens.core.layer import ALL_PRECISIONS, layers_to_csv
from qsens.core.maps import pin_layers
from qsens.core.precision import Precision
from qsens.core.spec import spec_from_values
from qsens.core.trial import Trial
from qsens.graph.prepare import prepare_graph
from qsens.run.folder import read_study
from qsens.run.open import open_sweep
from qsens.run.paths import RunPaths
from qsens.run.reopen import reopen_run
from qsens.run.scored_layers import scored_graph, unscored_notes


def heads():
    """A picture, a matte of its own layers, a state that only the next frame reads, an inner tensor."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["look"], "look", pads=[1] * 4),
        helper.make_node("Relu", ["look"], ["seen"], "relu"),
        helper.make_node("Conv", ["seen", "v"], ["picture"], "draw"),
        helper.make_node("Conv", ["image", "w"], ["edges"], "cut", pads=[1] * 4),
        helper.make_node("Conv", ["edges", "m"], ["matte"], "mask"),
        helper.make_node("Conv", ["seen", "s"], ["state"], "remember"),
        helper.make_node("Conv", ["seen", "s"], ["forgotten"], "forget"),
    ]
    weights = {
        "w": normal(4, 3, 3, 3),
        "v": normal(3, 4, 1, 1, seed=1),
        "m": normal(1, 4, 1, 1, seed=2),
        "s": normal(2, 4, 1, 1, seed=3),
    }
    sides = ["n", 3, 8, 8]
    outputs = {"picture": sides, "matte": ["n", 1, 8, 8], "state": ["n", 2, 8, 8], "seen": ["n", 4, 8, 8]}
    return onnx_model(nodes, inputs={"image": sides}, outputs=outputs, weights=weights)


@pytest.mark.parametrize(
    ("outputs", "held"),
    [
        (["picture"], ["cut", "mask", "remember"]),
        (["matte"], ["look", "draw", "remember"]),
        (["seen"], ["draw", "cut", "mask", "remember"]),
        (["picture", "matte"], ["remember"]),
        (["picture", "matte", "state"], []),
    ],
)
def test_layers_that_reach_no_scored_output_are_held_and_named(outputs, held):
    graph = scored_graph(prepare_graph(heads()), outputs)
    assert [layer.name for layer in graph.layers if Precision.INT8 not in layer.allowed] == held
    said = [layer.name for layer in graph.layers if "not reach the scored output" in layer.float_reason]
    assert said == held
    notes = unscored_notes(graph.layers)
    assert all(name in " ".join(notes) for name in held)
    assert bool(notes) is bool(held)


def test_a_pin_is_how_a_user_says_otherwise():
    graph = prepare_graph(heads())
    pinned = pin_layers(graph.layers, ["mask=int8", "cut=fp32"])
    graph = scored_graph(replace(graph, layers=pinned), ["picture"])
    allowed = {layer.name: layer.allowed for layer in graph.layers}
    assert allowed["mask"] == {Precision.INT8}
    assert allowed["cut"] == {Precision.FP32}
    assert allowed["look"] == ALL_PRECISIONS
    assert "pinned to INT8 although no score notices: mask does not reach it" in graph.notes


def test_what_a_branch_reads_reaches_the_output():
    branches = {
        name: helper.make_graph(
            [helper.make_node("Mul", ["outer", factor], ["chosen"], f"{name}/Mul")],
            name,
            [],
            [helper.make_tensor_value_info("chosen", 1, None)],
        )
        for name, factor in (("then_branch", "one"), ("else_branch", "two"))
    }
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["outer"], "outside"),
        helper.make_node("ReduceMax", ["image"], ["most"], "most", keepdims=0),
        helper.make_node("Greater", ["most", "one"], ["is_bright"], "bright"),
        helper.make_node("If", ["is_bright"], ["picture"], "if", **branches),
    ]
    weights = {"w": normal(3, 3, 1, 1), "one": np.float32(1), "two": np.float32(2)}
    sides = [1, 3, 8, 8]
    model = onnx_model(nodes, inputs={"image": sides}, outputs={"picture": sides}, weights=weights)
    assert scored_graph(prepare_graph(model), ["picture"]).layers[0].allowed == ALL_PRECISIONS


def test_an_output_that_no_layer_reaches_is_refused():
    nodes = [
        helper.make_node("Relu", ["image"], ["picture"], "relu"),
        helper.make_node("Conv", ["image", "w"], ["matte"], "cut"),
    ]
    sides = ["n", 3, 8, 8]
    outputs = {"picture": sides, "matte": sides}
    model = onnx_model(nodes, inputs={"image": sides}, outputs=outputs, weights={"w": normal(3, 3, 1, 1)})
    with pytest.raises(SpecError, match="none of the 1 layers reaches the scored output 'picture'") as caught:
        scored_graph(prepare_graph(model), ["picture"])
    assert "picture, matte" in caught.value.hint


@pytest.fixture
def values(tmp_path):
    (tmp_path / "heads.onnx").write_bytes(heads().SerializeToString())
    write_photos(tmp_path / "photos", side=8)
    return {
        "checkpoint": str(tmp_path / "heads.onnx"),
        "calibration": str(tmp_path / "photos"),
        "output": {"name": "picture"},
        "metrics": ["psnr"],
        "range_method": "minmax",
        "calibration_samples": 2,
        "evaluation_samples": 2,
        "threads": 1,
        "strategy": "ends",
    }


def test_no_map_of_a_sweep_has_them_in_int8(values, tmp_path):
    study = score_run(out=tmp_path / "run", **values)
    for name in ("cut", "mask", "remember"):
        assert all(trial.requested[name] is not Precision.INT8 for trial in study.trials)
    assert any(trial.requested["draw"] is Precision.INT8 for trial in study.trials)


def as_before_digests(paths, layers):
    """Make the run that of a version which kept no digests, with these layers."""
    paths.layers_path.write_text(layers_to_csv(layers), encoding="utf-8", newline="")
    provenance = json.loads(paths.provenance_path.read_text(encoding="utf-8"))
    del provenance["files"]
    paths.provenance_path.write_text(json.dumps(provenance), encoding="utf-8")


def test_a_run_that_began_with_all_layers_offered_goes_on_so(values, tmp_path):
    run = tmp_path / "run"
    before = score_run(out=run, **values, pinned=["cut=int8"])
    layers = [
        replace(layer, float_reason="", allowed=ALL_PRECISIONS) if layer.float_reason else layer
        for layer in before.layers
    ]
    as_before_digests(RunPaths(run), layers)
    study = score_run(out=run, **values, pinned=["cut=int8"])
    assert study.trials[: len(before.trials)] == before.trials
    assert study.layers == tuple(layers)
    assert any(trial.requested["mask"] is Precision.INT8 for trial in study.trials)
    assert reopen_run(run).graph.layers == read_study(run).layers


def test_a_run_says_what_it_does_not_offer_and_one_from_before_does_not(values, tmp_path):
    said = []
    spec = spec_from_values(values, "test")
    before = score_maps(open_sweep(spec), tmp_path / "run", hear=said.append)
    assert any("cut, mask, remember do not reach the scored output 'picture'" in line for line in said)
    layers = [replace(layer, float_reason="", allowed=ALL_PRECISIONS) for layer in before.layers]
    as_before_digests(RunPaths(tmp_path / "run"), layers)
    said.clear()
    score_maps(open_sweep(spec), tmp_path / "run", hear=said.append)
    assert not any("not offered" in line for line in said)


def test_trials_tell_what_maps_do_to_outputs_that_are_not_scored(values, tmp_path):
    study = score_run(out=tmp_path / "run", **values, pinned=["cut=int8"])
    fp32, int8 = (dict(study.trials[number].output_errors) for number in (0, 2))
    assert set(fp32) == set(int8) == {"matte", "state", "seen"}
    assert set(fp32.values()) == {0.0}
    assert all(0 < error < 0.2 for error in int8.values())
    assert read_study(tmp_path / "run").trials == study.trials


def test_a_journal_from_before_has_no_such_errors(values, tmp_path):
    trial = score_run(out=tmp_path / "run", **values).trials[2]
    line = {key: value for key, value in trial.to_json().items() if key != "output_errors"}
    assert trial.output_errors
    assert Trial.from_json(line) == replace(trial, output_errors=())

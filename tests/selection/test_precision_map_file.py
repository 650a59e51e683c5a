"""`precision_map.json`: what it holds, and what a wrong one says."""

import json
import math
from dataclasses import replace

import pytest

from qsens.core.errors import SpecError
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import SweepSpec
from qsens.core.trial import Provenance, Study
from qsens.device.audit import AskedLayer, ExecutedLayer, audit_layers
from qsens.selection.budget import Budget
from qsens.selection.choose import cheapest_within
from qsens.selection.precision_map_file import read_precision_map, write_precision_map
from qsens.testing import example_layers, example_trial

LAYERS = example_layers(4)
CHOSEN = PrecisionMap(Precision.INT8, ((LAYERS[3].name, Precision.FP16),))
SPEC = SweepSpec(checkpoint="/far/generator.onnx", budget="2.5", placement="dense")
PROVENANCE = Provenance("2026-01-01", {"graph": "f" * 16, "reference": "e" * 16}, {"onnxruntime": "1.2"})


@pytest.fixture
def path(tmp_path):
    maps = [*(PrecisionMap(precision) for precision in Precision), CHOSEN]
    trials = tuple(example_trial(number, entry, LAYERS) for number, entry in enumerate(maps))
    trials = (
        *trials[:3],
        replace(trials[3], requested=PrecisionMap(Precision.INT8, ((LAYERS[3].name, Precision.FP32),))),
    )
    study = Study("spec", LAYERS, trials)
    selection = cheapest_within(study, budget=Budget.parse("2.5"))
    asked = AskedLayer(LAYERS[0].name, LAYERS[0].node, "int8", "int8")
    step = ExecutedLayer("first + relu", (LAYERS[0].node,), "int8", "kernel")
    audit = {row.layer: row for row in audit_layers([asked], [step])}
    write_precision_map(tmp_path / "precision_map.json", selection, study, SPEC, PROVENANCE, audit)
    return tmp_path / "precision_map.json"


def test_the_map_is_read_back_with_what_rebuilds_the_engine(path):
    exported = read_precision_map(path)
    assert exported.precision_map == CHOSEN
    assert exported.layers == tuple(layer.name for layer in LAYERS)
    assert exported.model_digest == "f" * 16
    assert exported.placement == "dense"
    assert exported.weight_scales == SPEC.weight_scales
    assert exported.range_method == SPEC.range_method


def test_it_says_where_it_came_from(path):
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["model"]["file"] == "generator.onnx"
    assert [layer["engine_layer"] for layer in document["layers"][:2]] == ["first + relu", None]
    assert document["layers"][3]["requested"] == "fp32"
    assert document["layers"][3]["applied"] == "fp16"
    assert document["budget"]["text"] == "2.5"
    assert document["versions"] == {"onnxruntime": "1.2"}
    assert {score["metric"] for score in document["scores"]["chosen"]} == {"fid", "fid-fp32", "psnr"}
    assert document["scores"]["int8"][0]["value"] > document["scores"]["chosen"][0]["value"]
    assert "/far" not in path.read_text(encoding="utf-8")


def test_every_layer_has_its_reason(path):
    reasons = json.loads(path.read_text(encoding="utf-8"))["reasons"]
    assert list(reasons) == [layer.name for layer in LAYERS]
    assert reasons[LAYERS[3].name] == {
        "text": "with it in INT8 too (trial 2): fid 13.5 ± 0.2, limit 12.5",
        "kind": "costly",
        "trials": [2],
    }
    assert reasons[LAYERS[0].name]["kind"] == "free"


def test_a_file_without_reasons_is_read(path):
    document = json.loads(path.read_text(encoding="utf-8"))
    del document["reasons"]
    path.write_text(json.dumps(document), encoding="utf-8")
    assert read_precision_map(path).precision_map == CHOSEN


def test_infinite_scores_are_null_because_json_has_no_infinity(path):
    document = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(name))
    fp32 = {score["metric"]: score["value"] for score in document["scores"]["fp32"]}
    assert fp32["psnr"] is None
    assert math.isfinite(fp32["fid"])


WRONG = [
    (lambda d: d.pop("model"), "'model' is missing"),
    (lambda d: d["model"].pop("digest"), "'model.digest' is missing"),
    (lambda d: d.update(schema_version=2), "'schema_version' is 2"),
    (lambda d: d["precision_map"].update(default="int4"), "'precision_map.default' is 'int4'"),
    (lambda d: d["precision_map"]["overrides"].update(ghost="fp16"), "names 'ghost'"),
    (lambda d: d["settings"].update(placementt="dense"), "no key named 'settings.placementt'"),
    (lambda d: d["reasons"][LAYERS[0].name].pop("text"), r"'reasons\..*text' is missing"),
    (lambda d: d["layers"][1].update(applied="bf16"), r"'layers\.1\.applied' is 'bf16'"),
]


@pytest.mark.parametrize(("damage", "message"), WRONG)
def test_a_wrong_file_names_the_key(path, damage, message):
    document = json.loads(path.read_text(encoding="utf-8"))
    damage(document)
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(SpecError, match=message):
        read_precision_map(path)


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_a_file_that_is_no_map_is_named(tmp_path, content):
    path = tmp_path / "precision_map.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SpecError, match=r"precision_map\.json"):
        read_precision_map(path)

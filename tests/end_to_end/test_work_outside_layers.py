"""The share of INT8 of a network most of whose work is in no layer, from `layers` to the bundle."""

import json

import onnx
import pytest
from onnx import helper
from tiny_models import normal, onnx_model
from tiny_runs import qsens, sweep

LAYER_MACS, OTHER_MACS = 3 * 4 * 256 + 4 * 3 * 256, 4 * 4 * 9 * 256
SHARE = LAYER_MACS / (LAYER_MACS + OTHER_MACS)
SHOWN = f"100.0% ({SHARE:.1%} of all work)"
SENTENCE = f"{1 - SHARE:.1%} of all multiply-accumulates are in no layer and stay in float: modulated (Conv, "


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["x"], "stem"),
        helper.make_node("GlobalAveragePool", ["x"], ["p"], "pool"),
        helper.make_node("Mul", ["kernel", "p"], ["k"], "modulate"),
        helper.make_node("Conv", ["x", "k"], ["y"], "modulated", pads=[1] * 4),
        helper.make_node("Conv", ["y", "v"], ["z"], "head"),
        helper.make_node("Sigmoid", ["z"], ["picture"], "squash"),
    ]
    weights = {"w": normal(4, 3, 1, 1), "kernel": normal(4, 4, 3, 3, seed=1), "v": normal(3, 4, 1, 1, seed=2)}
    sides = [1, 3, 16, 16]
    path = tmp_path_factory.mktemp("generator") / "modulated.onnx"
    onnx.save(onnx_model(nodes, inputs={"image": sides}, outputs={"picture": sides}, weights=weights), path)
    return path


def test_layers_lists_it(generator):
    result = qsens("layers", generator)
    assert SENTENCE in result.stdout
    assert f"modulated  Conv  {OTHER_MACS:,}" in result.stdout
    values = json.loads(qsens("layers", generator, "--json").stdout)
    assert [(work["name"], work["macs"]) for work in values["other_work"]] == [("modulated", OTHER_MACS)]
    assert values["macs_share_in_layers"] == pytest.approx(SHARE)


def test_every_share_is_said_of_all_work_too(generator, tmp_path, no_figures):
    run = tmp_path / "run"
    result = sweep(generator, "noise", run, "--budget", "5", "--strategy", "one-at-a-time")
    assert "100.0% of the layers' MACs in INT8, there would ship" in result.stdout
    for text in (result.stdout, qsens("select", run, "--budget", "5").stdout, qsens("select", run).stdout):
        assert SHOWN in text
        assert SENTENCE in text
    assert f"modulated,Conv,{OTHER_MACS}," in (run / "other_work.csv").read_text()
    page = (run / "report.html").read_text()
    assert SHOWN in page
    assert SENTENCE in page
    document = json.loads((run / "precision_map.json").read_text())
    assert document["int8_share_of_all_work"] == pytest.approx(SHARE)
    bundle = tmp_path / "bundle"
    result = qsens("export", run, "--for", "tensorrt", "--out", bundle)
    assert result.exit_code == 0, result.stderr
    work = json.loads((bundle / "bundle.json").read_text())["all_work"]
    deployed = json.loads((bundle / "bundle.json").read_text())["map"]["int8_macs_share_deployed"]
    assert work["int8_share"] == pytest.approx(deployed * SHARE)
    assert [entry["macs"] for entry in work["in_no_layer"]] == [OTHER_MACS]
    assert SENTENCE in (bundle / "README.md").read_text()
    assert SENTENCE in result.stdout

import importlib

import numpy as np
import onnx
import pytest
from lowered_models import residual_generator
from PIL import Image

import qsens


@pytest.fixture
def inputs(tmp_path):
    onnx.save(residual_generator(), tmp_path / "generator.onnx")
    folder = tmp_path / "photographs"
    folder.mkdir()
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)):
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path


@pytest.mark.parametrize("name", ["choose_map", "open_graph", "run_sweep", "write_report"])
def test_functions_stay_functions_once_the_submodules_are_loaded(name):
    importlib.import_module("qsens.api")
    importlib.import_module("qsens.run.loop")
    assert callable(getattr(qsens, name))


def test_from_a_file_to_a_page(inputs, no_figures):
    graph = qsens.open_graph(inputs / "generator.onnx")
    assert [layer.name for layer in graph.layers] == ["first", "middle", "inner", "up", "last"]
    run = inputs / "run"
    study = qsens.run_sweep(
        inputs / "generator.onnx",
        calibration=str(inputs / "photographs"),
        metrics=["psnr"],
        strategy_options={"direction": "int8-first"},
        out=run,
    )
    assert len(study.trials) == 3 + 4
    assert qsens.choose_map(run, budget="1").int8_macs_share == 1.0
    page = qsens.write_report(str(run))
    assert "<html" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_workers_score_what_this_process_scores(inputs):
    values = {"calibration": str(inputs / "photographs"), "metrics": ["psnr"], "threads": 1}
    checkpoint = inputs / "generator.onnx"
    alone = qsens.run_sweep(checkpoint, out=inputs / "alone", **values)
    together = qsens.run_sweep(checkpoint, out=inputs / "together", workers=2, **values)
    assert [(trial.requested, trial.scores) for trial in together.trials] == [
        (trial.requested, trial.scores) for trial in alone.trials
    ]


def test_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'seep'"):
        qsens.seep  # noqa: B018 - the access is what is tested

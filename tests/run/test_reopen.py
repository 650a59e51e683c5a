"""Opening a run again: the same graph and ranges as scored, and what changed since is named."""

import shutil

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from qsens.core.errors import DataError, RunFolderError
from qsens.engines.onnxruntime import OnnxRuntimeBackend
from qsens.run.reopen import reopen_run
from qsens.scoring.fidelity import psnr_of_error
from qsens.scoring.pictures import pictures_from_values


def test_a_reopened_run_makes_the_pictures_that_were_scored(reopened):
    trial = next(trial for trial in reopened.study.trials if trial.number == 2)
    batch = {"image": np.stack([reopened.evaluation.sample(index)["image"] for index in range(4)])}
    pictures = []
    for requested in (reopened.study.trials[0].requested, trial.requested):
        with OnnxRuntimeBackend(threads=1).build(reopened.lower(requested)) as engine:
            pictures.append(
                pictures_from_values(engine.run(batch)["picture"], reopened.spec.output).astype(float)
            )
    error = np.mean((pictures[0] - pictures[1]) ** 2)
    assert psnr_of_error(float(error)) == pytest.approx(trial.score("psnr").value)


def test_layers_are_those_of_the_run(reopened):
    assert reopened.graph.layers == reopened.study.layers
    assert {layer.name for layer in reopened.graph.layers} == {"first", "middle", "inner", "up", "last"}


def test_images_are_needed_only_where_they_are_asked_for(project):
    shutil.rmtree(project / "photos")
    run = reopen_run(project / "run")
    assert run.lower(run.study.trials[2].requested).requested == run.study.trials[2].requested
    with pytest.raises(DataError):
        _ = run.evaluation


def test_other_images_are_refused(project):
    (project / "photos" / "photo-0.png").write_bytes((project / "photos" / "photo-1.png").read_bytes())
    run = reopen_run(project / "run")
    with pytest.raises(RunFolderError, match="the evaluation changed"):
        _ = run.evaluation
    with pytest.raises(RunFolderError, match="the evaluation"):
        _ = run.opened


def test_the_assembled_run_is_what_was_swept(reopened):
    assert [metric.name for metric in reopened.opened.metrics] == ["psnr"]
    assert reopened.opened.graph.digest == reopened.graph.digest


def test_other_weights_are_refused(project):
    model = onnx.load(project / "generator.onnx")
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "w1")
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * 2, "w1"))
    onnx.save(model, project / "generator.onnx")
    with pytest.raises(RunFolderError, match="the generator changed"):
        reopen_run(project / "run")


def test_a_graph_of_the_same_weights_is_refused_and_the_library_named(project):
    provenance = project / "run" / "provenance.json"
    text = provenance.read_text().replace(reopen_run(project / "run").graph.digest, "another")
    provenance.write_text(text.replace(f'"onnx": "{onnx.__version__}"', '"onnx": "1.0"'))
    with pytest.raises(RunFolderError, match=rf"onnx: 1.0 -> {onnx.__version__}"):
        reopen_run(project / "run")


@pytest.mark.parametrize("damage", ["absent", "torn"])
def test_without_ranges_the_sweep_must_run_first(project, damage):
    path = project / "run" / "ranges.npz"
    if damage == "absent":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(RunFolderError, match=r"ranges\.npz is (missing|not the file)") as caught:
        reopen_run(project / "run")
    assert "let the sweep run" in caught.value.hint


def test_other_layers_are_refused(project):
    path = project / "run" / "layers.csv"
    path.write_text(path.read_text().replace("middle,middle", "middle,centre"))
    with pytest.raises(RunFolderError, match=r"layers\.csv is not the file that the run wrote"):
        reopen_run(project / "run")

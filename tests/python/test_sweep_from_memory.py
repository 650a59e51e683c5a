"""Sweeps of networks and samples that a program holds: kept once, compared when resumed, never changed."""

import numpy as np
import pytest
import tiny_loops
from tiny_models import conv_model
from tiny_sweeps import SMALL_SWEEP

import qsens
from qsens.core.errors import DataError, PluginError, RunFolderError, SpecError
from qsens.run.paths import RunPaths
from qsens.scoring.fidelity import Psnr

ARRAYS = np.random.default_rng(0).random((7, 3, 8, 8), np.float32)
VALUES = {**SMALL_SWEEP, "strategy": "boundary", "progress": False, "hear": lambda line: None}


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    monkeypatch.setattr("qsens.report.write.write_report", lambda folder, **_: folder / "report.html")
    monkeypatch.setattr("qsens.api.survivals", lambda *_: ())


class OwnPsnr(Psnr):
    """The same score by another name; told to, it fails."""

    name = "own"

    def __init__(self, fails=False):
        self.fails = fails

    def start(self, context):
        if self.fails:
            raise ValueError("out of ideas")
        return super().start(context)


def test_a_model_and_arrays_are_kept_in_the_run_and_compared_when_it_goes_on(tmp_path):
    out, heard = tmp_path / "run", []
    run = qsens.sweep(conv_model(), out=out, calibration=ARRAYS, **{**VALUES, "hear": heard.append})
    kept = RunPaths(out).given / "calibration"
    assert [path.name for path in sorted(kept.iterdir())] == [f"{place:06d}.npz" for place in range(6)]
    assert np.array_equal(np.load(kept / "000005.npz")["image"], ARRAYS[5])
    assert "Note: the first 6 samples of calibration are taken; calibration_samples takes more" in heard
    assert 'checkpoint = "given/tiny.onnx"' in RunPaths(out).spec_path.read_text()
    again = qsens.sweep(conv_model(), out=out, calibration=lambda: iter(ARRAYS), **VALUES)
    assert again.study == run.study
    with pytest.raises(RunFolderError, match="sample 0 of calibration is another than when"):
        qsens.sweep(conv_model(), out=out, calibration=ARRAYS[::-1], **VALUES)
    with pytest.raises(RunFolderError, match="the generator tiny is another"):
        qsens.sweep(conv_model(side=16), out=out, calibration=ARRAYS, **VALUES)


def test_a_run_from_memory_opens_where_it_is_moved_to(tmp_path):
    qsens.sweep(conv_model(), out=tmp_path / "run", calibration=ARRAYS, **VALUES)
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    bundle = qsens.export(moved, target="tensorrt", trial=2, goldens=1, hear=lambda line: None)
    assert (bundle.folder / "verify.py").exists()


def test_more_than_a_run_keeps_is_refused_with_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("qsens.run.given.MOST_BYTES", 2000)
    with pytest.raises(DataError, match="2 samples of calibration take more than the"):
        qsens.sweep(conv_model(), out=tmp_path / "run", calibration=ARRAYS, **VALUES)


def test_something_that_is_no_network_is_refused_by_its_type(tmp_path):
    with pytest.raises(SpecError, match="the generator is a dict") as caught:
        qsens.sweep({}, out=tmp_path / "run", calibration=ARRAYS, **VALUES)
    assert caught.value.__notes__ == [
        "Hint: give a torch.nn.Module, an onnx.ModelProto, or the path of a file"
    ]


def test_own_metrics_score_as_class_and_as_object(tmp_path):
    metrics = ["psnr", OwnPsnr]
    run = qsens.sweep(
        conv_model(), out=tmp_path / "class", calibration=ARRAYS, **{**VALUES, "metrics": metrics}
    )
    assert run.spec.metrics == ("psnr", f"{__name__}:OwnPsnr")
    as_object = {**VALUES, "metrics": [OwnPsnr(fails=False)]}
    other = qsens.sweep(conv_model(), out=tmp_path / "object", calibration=ARRAYS, **as_object)
    assert [trial.score("own").value for trial in other.trials] == [
        trial.score("own").value for trial in run.trials
    ]


def test_an_own_metric_that_fails_is_shown_by_its_own_lines(tmp_path):
    values = {**VALUES, "metrics": [OwnPsnr(fails=True)]}
    with pytest.raises(PluginError, match="out of ideas") as caught:
        qsens.sweep(conv_model(), out=tmp_path / "run", calibration=ARRAYS, **values)
    assert 'raise ValueError("out of ideas")' in caught.value.message
    assert len(caught.traceback) == 2


def test_a_loop_of_ones_own_is_an_object_or_a_function_and_its_run_can_be_exported(tmp_path):
    run = qsens.sweep(
        conv_model(), out=tmp_path / "run", calibration=ARRAYS, loop=tiny_loops.Twice(), **VALUES
    )
    assert run.spec.loop.get("name") == "object:Twice"
    assert run.study.trials[2].score("psnr").value < 100
    bundle = qsens.export(run.folder, target="tensorrt", trial=2, goldens=1, hear=lambda line: None)
    assert (bundle.folder / "goldens.npz").exists()
    other = qsens.sweep(
        conv_model(), out=tmp_path / "other", calibration=ARRAYS, loop=tiny_loops.thrice, **VALUES
    )
    assert other.spec.loop.get("name") == "tiny_loops:thrice"

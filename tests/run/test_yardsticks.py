"""Yardsticks of a run: scored once from FP32's pictures, kept by content, with the trials wherever read."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from lowered_models import residual_generator
from tiny_photos import write_photos

from qsens.api import score_maps
from qsens.core.alterations import DEFAULT_YARDSTICKS, Alteration
from qsens.core.errors import ScoreError
from qsens.core.interfaces import Strategy
from qsens.core.spec import spec_from_values
from qsens.core.trial import Trial
from qsens.run import score_yardsticks
from qsens.run.folder import read_study
from qsens.run.open import open_sweep
from qsens.run.paths import RunPaths
from qsens.run.yardsticks import wanted_alterations
from qsens.scoring.alterations import altered
from qsens.scoring.fidelity import Psnr, psnr_of_error


class Nothing(Strategy):
    """Proposes no map, and keeps what it was shown."""

    name = "nothing"

    def __init__(self):
        self.seen = []

    def propose(self, layers, trials):
        self.seen.append(tuple(trials))
        return []


class Choosy(Psnr):
    """PSNR that refuses pictures of noise, as it may refuse whatever it cannot score."""

    name = "choosy"

    def start(self, context):
        inner = super().start(context)

        class Accumulator:
            def update(self, batch):
                if np.abs(batch.images.astype(int) - batch.baseline).max() > 15:
                    raise ScoreError("so much noise cannot be scored")
                inner.update(batch)

            def compute(self):
                return inner.compute()

        return Accumulator()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("yardsticks")
    onnx.save(residual_generator(), folder / "generator.onnx")
    return folder / "generator.onnx", write_photos(folder / "photos")


@pytest.fixture
def sweep(files):
    def run(out, change=lambda opened: opened, heard=None, **values):
        model, photos = files
        shared = {
            "checkpoint": str(model),
            "calibration": str(photos),
            "calibration_samples": 2,
            "evaluation_samples": 5,
            "metrics": ["psnr"],
            "range_method": "minmax",
            "budget": "40",
            "batch_size": 2,
            "threads": 1,
        }
        opened = replace(open_sweep(spec_from_values({**shared, **values}, "test")), strategy=Nothing())
        lines = [] if heard is None else heard
        return score_maps(change(opened), out, hear=lines.append)

    return run


def test_a_yardstick_is_the_score_of_fp32s_own_pictures_after_the_alteration(sweep, tmp_path):
    study = sweep(tmp_path, yardsticks=["noise:2", "jpeg:50"], seed=4)
    pictures = np.load(RunPaths(tmp_path).evidence / "fp32-images.npy")

    for entry in study.yardsticks:
        changed = altered(pictures, Alteration.parse(entry.alteration), seed=4)
        error = np.square(changed.astype(float) - pictures).mean()
        assert entry.score("psnr").value == pytest.approx(psnr_of_error(error))
        assert entry.score("psnr").images == 5
        assert entry.score("psnr").standard_error > 0
    assert [entry.alteration for entry in study.yardsticks] == ["noise:2", "jpeg:50"]


def test_a_few_are_scored_in_every_run_and_none_where_none_are_asked_for(sweep, tmp_path):
    study = sweep(tmp_path / "default")
    without = sweep(tmp_path / "none", yardsticks=[])

    assert tuple(entry.alteration for entry in study.yardsticks) == DEFAULT_YARDSTICKS
    assert without.yardsticks == ()


def test_resuming_takes_them_from_the_folder(sweep, tmp_path, monkeypatch):
    first = sweep(tmp_path, yardsticks=["noise:1"])
    done = []
    monkeypatch.setattr(
        score_yardsticks,
        "altered",
        lambda *given, **more: (done.append(given[1]), altered(*given, **more))[1],
    )
    again = sweep(tmp_path, yardsticks=["noise:1"])
    assert done == []
    assert again.trials == first.trials

    more = sweep(tmp_path, yardsticks=["noise:1", "blur:0.5"])
    assert set(done) == {Alteration("blur", 0.5)}
    assert [entry.alteration for entry in more.yardsticks] == ["noise:1", "blur:0.5"]


def test_the_strategy_and_whoever_reads_the_folder_see_them(sweep, tmp_path):
    strategy = Nothing()
    study = sweep(tmp_path, lambda opened: replace(opened, strategy=strategy), yardsticks=["noise:1"])

    assert len(study.yardsticks) == 1
    assert strategy.seen[-1] == read_study(tmp_path).trials == study.trials
    assert Trial.from_json(json.loads(json.dumps(study.trials[0].to_json()))) == study.trials[0]


def test_yardsticks_of_other_pictures_or_in_a_damaged_file_do_not_count(sweep, tmp_path):
    sweep(tmp_path, yardsticks=["noise:1"])
    path = RunPaths(tmp_path).yardsticks_path
    kept = json.loads(path.read_text())
    assert read_study(tmp_path).yardsticks

    path.write_text(json.dumps({**kept, "pictures": "of another run"}))
    assert read_study(tmp_path).yardsticks == ()
    path.write_text(json.dumps(kept)[:-9])
    assert read_study(tmp_path).yardsticks == ()
    path.unlink()
    assert read_study(tmp_path).yardsticks == ()


def test_a_metric_that_cannot_score_an_alteration_is_left_out_and_said(sweep, tmp_path):
    heard = []
    study = sweep(
        tmp_path,
        lambda opened: replace(opened, metrics=(Choosy(),)),
        heard,
        yardsticks=["noise:8", "brightness:0.99"],
    )

    noise, brightness = study.yardsticks
    assert (noise.scores, len(brightness.scores)) == ((), 1)
    assert "Note: choosy cannot score noise:8: so much noise cannot be scored" in heard


def test_fp32s_pictures_are_made_again_where_they_are_gone(sweep, tmp_path):
    first = sweep(tmp_path, yardsticks=[])
    (RunPaths(tmp_path).evidence / "fp32-images.npy").unlink()
    study = sweep(tmp_path, yardsticks=["noise:1"])

    assert [trial.scores for trial in study.trials] == [trial.scores for trial in first.trials]
    assert study.yardsticks[0].score("psnr").value == pytest.approx(48.1, abs=1.0)


def test_an_alteration_that_a_budget_names_is_wanted_too():
    spec = spec_from_values(
        {
            "budget": "fid=jpeg:85, psnr=45",
            "guard": "blur:1",
            "yardsticks": ["noise:1"],
            "delivery": "jpeg:60",
        },
        "test",
    )

    assert {str(one) for one in wanted_alterations(spec)} == {"noise:1", "jpeg:60", "jpeg:85", "blur:1"}

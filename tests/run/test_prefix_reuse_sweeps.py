"""Sweeps whose maps share work, against sweeps that run every map whole, bit by bit."""

from dataclasses import replace

import onnx
import pytest
from lowered_models import residual_generator
from tiny_photos import write_photos

from qsens.api import score_maps
from qsens.core.interfaces import Strategy
from qsens.core.maps import anchor_maps
from qsens.core.spec import spec_from_values
from qsens.core.trial import untried
from qsens.engines import shared_prefix
from qsens.run import loop
from qsens.run.folder import read_study
from qsens.run.journal import read_journal
from qsens.run.loop import StoppedError
from qsens.run.open import open_sweep
from qsens.run.paths import RunPaths
from qsens.search.enumerations import Boundary


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prefix-reuse")
    onnx.save(residual_generator(), folder / "generator.onnx")
    return folder / "generator.onnx", write_photos(folder / "photos")


@pytest.fixture
def rests(monkeypatch):
    """Counts the batches of which only the rest was run."""
    found = []
    run_rest = shared_prefix._ReusingEngine._run_rest

    def counted(self, *arguments):
        found.append(1)
        return run_rest(self, *arguments)

    monkeypatch.setattr(shared_prefix._ReusingEngine, "_run_rest", counted)
    return found


@pytest.fixture
def sweep(files):
    def run(out, *, reuse_mib, stop_after=None, asks=None, **values):
        model, photos = files
        shared = {
            "checkpoint": str(model),
            "calibration": str(photos),
            "metrics": ["psnr", "ssim"],
            "calibration_samples": 2,
            "evaluation_samples": 5,
            "batch_size": 2,
            "threads": 1,
            "range_method": "minmax",
            "backend_options": {"reuse_mib": reuse_mib},
            "strategy": "boundary",
        }
        spec = spec_from_values({**shared, **values}, "test")

        def progress(done, total, label):
            journal = RunPaths(out).journal_path
            if stop_after is not None and len(read_journal(journal).trials) >= stop_after:
                raise KeyboardInterrupt

        opened = open_sweep(spec)
        if asks is not None:
            opened = replace(opened, strategy=asks)
        return score_maps(opened, out, progress=progress)

    return run


def written(out):
    """The trials without their durations, and every file of evidence and samples."""
    paths = RunPaths(out)
    files = {
        path.name: path.read_bytes()
        for folder in (paths.evidence, paths.samples)
        for path in sorted(folder.glob("*.np[yz]"))
    }
    return [replace(trial, duration_s=0.0) for trial in read_study(out).trials], files


@pytest.mark.parametrize("strategy", ["one-at-a-time", "boundary+ends"])
@pytest.mark.parametrize("placement", ["residual", "dense"])
def test_a_sweep_writes_the_same_with_and_without(tmp_path, sweep, rests, strategy, placement):
    values = {"strategy": strategy, "placement": placement}
    sweep(tmp_path / "whole", reuse_mib=0, **values)
    assert not rests
    sweep(tmp_path / "shared", reuse_mib=64, **values)
    assert rests
    assert written(tmp_path / "shared") == written(tmp_path / "whole")


def test_a_stopped_sweep_goes_on(tmp_path, sweep, rests):
    sweep(tmp_path / "whole", reuse_mib=0)
    for stop_after in (1, 4):
        stopped = tmp_path / f"stopped after {stop_after}"
        with pytest.raises(StoppedError):
            sweep(stopped, reuse_mib=64, stop_after=stop_after)
        rests.clear()
        sweep(stopped, reuse_mib=64)
        assert rests
        assert written(stopped) == written(tmp_path / "whole")


def test_screens_share_too(tmp_path, sweep, rests):
    sweep(tmp_path / "whole", reuse_mib=0, screen_samples=3)
    sweep(tmp_path / "shared", reuse_mib=64, screen_samples=3)
    assert rests
    assert written(tmp_path / "shared") == written(tmp_path / "whole")


class BoundaryAfterScores(Strategy):
    """Proposes nothing before INT8 has a score, then boundaries: what a plan cannot know."""

    name = "boundary-after-scores"

    def propose(self, layers, trials):
        assert trials[2].scores, "no scores yet"
        return untried(Boundary(direction="int8-first").propose(layers, trials), trials)


def test_maps_that_no_plan_knows_share_too(tmp_path, sweep, rests):
    sweep(tmp_path / "whole", reuse_mib=0, asks=BoundaryAfterScores())
    assert not rests
    sweep(tmp_path / "shared", reuse_mib=64, asks=BoundaryAfterScores())
    assert rests
    assert written(tmp_path / "shared") == written(tmp_path / "whole")


def test_a_sweep_asks_its_strategy_for_a_plan_once(sweep, tmp_path, monkeypatch):
    planned = []
    plan_maps = loop.plan_maps

    def counted(layers, strategy):
        planned.append(strategy)
        return plan_maps(layers, strategy)

    monkeypatch.setattr(loop, "plan_maps", counted)
    study = sweep(tmp_path / "run", reuse_mib=0)
    assert len(planned) == 1
    assert len(study.trials) > len(anchor_maps(study.layers))

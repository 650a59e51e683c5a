"""Slow metrics: the samples of a screen for most maps, all of them for anchors, yardsticks and the choice."""

import numpy as np
import onnx
import pytest
from annotated_sets import FrameSet, frames_of
from lowered_models import residual_generator
from tiny_photos import write_photos
from tiny_sweeps import SMALL_SWEEP

from qsens.api import score_maps
from qsens.core.interfaces import Metric, ScoredBatch, ScoringContext
from qsens.core.precision import Precision
from qsens.core.spec import spec_from_values
from qsens.run.folder import read_study
from qsens.run.open import open_sweep
from qsens.run.paths import RunPaths
from qsens.run.slow_metrics import OnFew, few_places, metrics_on_few
from qsens.scoring.fidelity import Psnr, Ssim

ALL, FEW = 6, 3


class SlowSsim(Ssim):
    name = "slow"
    is_slow = True
    facts = Metric.facts


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slow")
    onnx.save(residual_generator(), folder / "generator.onnx")
    write_photos(folder / "photos")

    def sweep(budget):
        values = {
            "strategy": "boundary",
            **SMALL_SWEEP,
            "checkpoint": str(folder / "generator.onnx"),
            "calibration": str(folder / "photos"),
            "evaluation": str(folder / "photos"),
            "metrics": ["psnr", f"{__name__}:SlowSsim"],
            "yardsticks": ["jpeg:50"],
            "evaluation_samples": ALL,
            "screen_samples": FEW,
            "repair": "none",
            "budget": budget,
        }
        score_maps(open_sweep(spec_from_values(values, "test")), folder / "run")
        return folder / "run", read_study(folder / "run")

    return sweep


def images_of(scored):
    return {score.metric: score.images for score in scored.scores}


def test_most_maps_are_scored_on_a_few_samples_and_those_that_count_on_all(run):
    out, study = run("psnr=20")
    anchors = [study.anchors[precision].number for precision in Precision]
    full = [trial.number for trial in study.scored() if images_of(trial)["slow"] == ALL]
    few = [trial for trial in study.scored() if trial.number not in full]
    assert set(anchors) <= set(full)
    assert few
    assert {images_of(trial)["slow"] for trial in few} == {FEW}
    assert {images_of(trial)["psnr"] for trial in study.scored()} == {ALL}
    assert images_of(study.yardsticks[0]) == {"psnr": ALL, "slow": ALL}
    assert all(list(metrics_on_few(study, trial)) == ["slow"] for trial in few)
    # Another budget chooses another map, which is scored on all samples then, and no map again.
    value = min(trial.score("psnr").value for trial in few) + 1e-6
    _, later = run(f"psnr={value}")
    assert len(later.trials) == len(study.trials)
    assert RunPaths(out).full_scores_path.exists()
    added = [t for t in later.scored() if images_of(t)["slow"] == ALL and t.number not in full]
    assert len(added) == 1
    before = study.trials[added[0].number].score("slow")
    assert added[0].score("slow").against == before.against


def test_a_few_samples_are_spread_or_runs_of_frames():
    assert few_places(FrameSet([{}] * 9), 3) == (0, 4, 8)
    clips = FrameSet(frames_of(a=4, b=4, c=4, d=4))
    assert few_places(clips, 9) == (0, 1, 2, 3, 12, 13, 14, 15)


def test_scores_on_a_few_are_those_of_these_samples_alone():
    rng = np.random.default_rng(0)
    before = rng.integers(0, 200, (7, 3, 16, 16), dtype=np.uint8)
    after = before + rng.integers(0, 20, before.shape, dtype=np.uint8)
    context = ScoringContext(7, None, None, None, None, "e", np.array([0, 0, 1, 1, 2, 2, 3]))
    accumulator = OnFew(Psnr(), (1, 4, 6)).start(context)
    for start in range(0, 7, 2):
        part = slice(start, start + 2)
        accumulator.update(ScoredBatch(start, after[part], before[part], None))
    alone = Psnr().start(ScoringContext(3, None, None, None, None, "e", np.array([0, 2, 3])))
    alone.update(ScoredBatch(0, after[[1, 4, 6]], before[[1, 4, 6]], None))
    assert accumulator.compute().score == alone.compute().score

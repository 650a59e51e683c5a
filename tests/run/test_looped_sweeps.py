"""Sweeps of generators that call their network more than once: what is calibrated on, and what is scored."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny_loops import FRAMES, RECURRENT, SAMPLER, SMALL, noise_predictor, recurrent_generator, write_clips
from tiny_models import conv_model, run_model
from tiny_photos import write_photos
from tiny_sweeps import score_run

from qsens.calibration.recorded_calls import kept_calls
from qsens.core.errors import DataError, PluginError, ScoreError, SpecError
from qsens.core.spec import spec_from_values
from qsens.run.evidence import load_baseline
from qsens.run.open import open_sweep
from qsens.run.paths import RunPaths
from qsens.run.plan import plan_sweep


@pytest.fixture
def clips(tmp_path):
    onnx.save(recurrent_generator(), tmp_path / "g.onnx")
    return {
        "checkpoint": str(tmp_path / "g.onnx"),
        "calibration": str(write_clips(tmp_path / "clips")),
        "calibration_samples": FRAMES,
        "evaluation_samples": 3 * FRAMES,
        "loop": RECURRENT,
        "output": {"name": "picture"},
        **SMALL,
    }


@pytest.fixture
def noise(tmp_path):
    onnx.save(noise_predictor(), tmp_path / "g.onnx")
    return {
        "checkpoint": str(tmp_path / "g.onnx"),
        "calibration": "noise",
        "calibration_samples": 3,
        "evaluation_samples": 5,
        "batch_size": 2,
        "loop": SAMPLER,
        "output": {"value_range": [-1.0, 1.0]},
        **SMALL,
    }


def kept(folder):
    paths = RunPaths(folder)
    return kept_calls(paths.calls_path, paths.call_arrays_path)


def test_states_of_a_clip_are_those_that_the_network_handed_on(clips, tmp_path):
    study = score_run(out=tmp_path / "run", **clips)
    job, model = open_sweep(spec_from_values(clips, "test")), recurrent_generator()
    pictures, state = [], None
    for place in range(len(job.evaluation)):
        state = np.zeros((1, 4, 8, 8), np.float32) if place % FRAMES == 0 else state
        feed = {"frame": job.evaluation.sample(place)["frame"][None], "h_in": state}
        picture, state = run_model(model, feed)
        pictures.append(np.rint(picture[0] * 255).astype(np.uint8))
    baseline = load_baseline(tmp_path / "run" / "evidence", study.trials[0], len(pictures))
    assert np.abs(np.asarray(baseline.images).astype(int) - np.stack(pictures)).max() <= 1
    calls = kept(tmp_path / "run")
    assert [call.step for call in calls.facts.calls] == [0, 1, 2]
    assert not calls.sample(0)["h_in"].any()
    assert calls.sample(1)["h_in"].any()
    assert calls.facts.steps[0].ends["h_in"] == (0.0, 0.0)


def test_a_looped_sweep_goes_on_where_it_stopped_and_scores_the_same_on_workers(clips, tmp_path):
    first = score_run(out=tmp_path / "run", **clips)
    (tmp_path / "run" / "calls.npz").unlink()
    again = score_run(out=tmp_path / "run", **clips)
    assert again.trials == first.trials
    other = score_run(out=tmp_path / "other", workers=1, **clips)
    assert [trial.scores for trial in other.trials] == [trial.scores for trial in first.trials]


def test_screens_play_whole_clips(clips, tmp_path):
    values = {**clips, "screen_samples": 2, "strategy": "curve"}
    study = score_run(out=tmp_path / "run", **values)
    counts = {score.images for trial in study.trials for score in trial.screen_scores}
    assert counts == {2 * FRAMES}


def test_a_sampler_is_calibrated_on_calls_of_all_its_steps(noise, tmp_path):
    study = score_run(out=tmp_path / "run", **noise)
    calls = kept(tmp_path / "run")
    assert [call.step for call in calls.facts.calls] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert sorted({float(calls.sample(place)["t"]) for place in range(12)}) == [250, 500, 750, 1000]
    int8 = next(trial for trial in study.trials if trial.requested.default == "int8")
    assert 15 < int8.score("psnr").value < 70


def test_more_calls_than_are_kept_leave_every_step_its_share(noise, tmp_path, monkeypatch):
    monkeypatch.setattr("qsens.calibration.recorded_calls.MOST_CALLS", 6)
    score_run(out=tmp_path / "run", **{**noise, "strategy": "ends"})
    calls = kept(tmp_path / "run")
    steps = [call.step for call in calls.facts.calls]
    assert calls.facts.total == 12
    assert {steps.count(step) for step in range(4)} == {1, 2}


def test_a_plan_counts_calls(noise):
    plan = plan_sweep(open_sweep(spec_from_values(noise, "test")))
    assert plan.calls_per_picture == 4


def test_a_pictures_batch_does_not_change_what_a_sampler_makes(noise, tmp_path):
    one = score_run(out=tmp_path / "one", **{**noise, "batch_size": 1, "strategy": "ends"})
    more = score_run(out=tmp_path / "more", **{**noise, "batch_size": 5, "strategy": "ends"})
    for first, second in zip(one.trials, more.trials, strict=True):
        assert first.score("psnr").value == pytest.approx(second.score("psnr").value, abs=0.2)


@pytest.fixture
def photos(tmp_path):
    onnx.save(conv_model(), tmp_path / "g.onnx")
    calibration = str(write_photos(tmp_path / "photos"))
    return {"checkpoint": str(tmp_path / "g.onnx"), "calibration": calibration, "strategy": "ends", **SMALL}


def test_a_loop_of_ones_own_is_named_like_other_code(photos, tmp_path):
    once = score_run(out=tmp_path / "once", **photos)
    twice = score_run(out=tmp_path / "twice", loop={"name": "tiny_loops:Twice"}, **photos)
    assert kept(tmp_path / "twice").facts.total == 2 * kept(tmp_path / "twice").facts.samples
    assert once.spec_digest != twice.spec_digest
    assert once.trials[-1].score("psnr") != twice.trials[-1].score("psnr")


def test_the_guided_loop_of_the_guide_goes_where_both_of_its_calls_lead():
    code = {"np": np}
    guide = Path(__file__).parents[2] / "docs" / "loops.md"
    exec(
        guide.read_text().partition("```python\nimport numpy")[2].partition("```")[0].removeprefix(" as np"),
        code,
    )
    start = np.full((2, 3), 5.0, np.float32)

    def call(feed):
        assert 0 < feed["t"][0] <= 1000
        return {"velocity": np.full_like(start, 1.0 + feed["label"][0, 0])}

    (made,) = code["Guided"](strength=2.0).play(call, [{"x": start, "label": np.ones((2, 1), np.float32)}])
    np.testing.assert_allclose(made["picture"], 5 - (1 + 2 * 1), rtol=1e-5)


def test_a_loop_may_be_a_function(photos, tmp_path):
    values = {**photos, "loop": {"name": "tiny_loops:thrice"}}
    score_run(out=tmp_path / "run", **values)
    assert kept(tmp_path / "run").facts.total == 3 * kept(tmp_path / "run").facts.samples
    with pytest.raises(SpecError, match="the options of the loop 'tiny_loops:thrice'"):
        open_sweep(spec_from_values({**photos, "loop": {"name": "tiny_loops:thrice", "steps": 2}}, "test"))


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("tiny_loops:Unseeded", DataError, "another 'picture' of the same sample when it is played again"),
        ("tiny_loops:Nothing", PluginError, "the loop Nothing returned no picture, but {}"),
        ("tiny_loops:Missing", SpecError, "has no 'Missing'"),
        ("recurrence", SpecError, "no loop named 'recurrence'"),
    ],
)
def test_loops_that_cannot_be_played_say_why(photos, tmp_path, name, error, message):
    with pytest.raises(error, match=message):
        score_run(out=tmp_path / "run", loop={"name": name}, **photos)


def test_a_loop_without_an_end_is_ended(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("qsens.calibration.plays.MOST_CALLS", 1)
    with pytest.raises(ScoreError, match="1 times without coming to an end"):
        score_run(out=tmp_path / "run", loop={"name": "tiny_loops:Twice"}, **photos)


def test_clips_are_needed_where_states_are_handed_on(photos, clips, tmp_path):
    with pytest.raises(DataError, match="states no clips"):
        open_sweep(spec_from_values({**clips, "calibration": "noise"}, "test"))
    with pytest.raises(SpecError, match="options of a loop that is not named"):
        open_sweep(spec_from_values({**photos, "loop": {"steps": 3}}, "test"))

"""Screening in a real sweep: the few samples, their scores, what a journal says of them, and no screening."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from lowered_models import residual_generator
from tiny_photos import write_photos

from qsens.api import score_maps
from qsens.calibration.splits import SampleView, spread_places
from qsens.core.errors import ScoreError
from qsens.core.interfaces import Metric, Strategy
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import spec_from_values
from qsens.core.trial import Outcome, Screen, Trial, untried
from qsens.run.evidence import load_evidence
from qsens.run.folder import read_study
from qsens.run.loop import plan_maps
from qsens.run.open import open_sweep
from qsens.run.paths import RunPaths
from qsens.run.plan import plan_sweep
from qsens.run.stages import screen_samples
from qsens.testing import example_layers

FIRST, SECOND = PrecisionMap(Precision.INT8), PrecisionMap(Precision.FP16)
EVALUATION, FEW = 5, 3


class ScreensThenScores(Strategy):
    """Screens one map, then scores that one and screens another."""

    name = "screens-then-scores"

    def propose(self, layers, trials):
        first, second = self.maps(layers)
        return untried([Screen(first)], trials) or untried([first, Screen(second)], trials)

    @staticmethod
    def maps(layers):
        names = [layer.name for layer in layers]
        everywhere = dict.fromkeys(names, Precision.FP16)
        return [PrecisionMap.over({**everywhere, name: Precision.INT8}) for name in names[:2]]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("screening")
    onnx.save(residual_generator(), folder / "generator.onnx")
    return folder / "generator.onnx", write_photos(folder / "photos")


@pytest.fixture(scope="module")
def sweep(files):
    def run(out, change=lambda opened: opened, **values):
        model, photos = files
        shared = {
            "checkpoint": str(model),
            "calibration": str(photos),
            "metrics": ["psnr", "ssim"],
            "calibration_samples": 2,
            "evaluation_samples": EVALUATION,
            "batch_size": 2,
            "threads": 1,
            "range_method": "minmax",
        }
        opened = open_sweep(spec_from_values({**shared, **values}, "test"))
        opened = replace(opened, strategy=ScreensThenScores())
        return score_maps(change(opened), out, progress=lambda *_: None)

    return run


@pytest.fixture(scope="module")
def screened(sweep, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "screened"
    return out, sweep(out, screen_samples=FEW)


def same_map(study):
    """The first map's screened and its scored trial."""
    wanted = ScreensThenScores.maps(study.layers)[0]
    by_outcome = {trial.outcome: trial for trial in study.trials if trial.requested == wanted}
    return by_outcome[Outcome.SCREENED], by_outcome[Outcome.SCORED]


def test_a_screen_scores_the_few_samples_and_the_map_is_scored_on_all_afterwards(screened):
    _, study = screened
    screen, scored = same_map(study)
    assert screen not in study.scored()
    assert [score.images for score in screen.scores] == [FEW, FEW]
    assert [score.images for score in scored.scores] == [EVALUATION, EVALUATION]
    assert scored.screen_scores == screen.scores
    assert screen.scores[0].value != scored.scores[0].value


def test_a_screen_reads_the_samples_that_are_spread_over_the_set(screened):
    out, study = screened
    screen, scored = same_map(study)
    whole, few = (load_evidence(RunPaths(out).evidence, trial.number) for trial in (scored, screen))
    of_all = whole.influences["ssim"] + scored.score("ssim").value
    of_few = few.influences["ssim"] + screen.score("ssim").value
    assert np.allclose(of_few, of_all[list(spread_places(EVALUATION, FEW))], atol=1e-12)


def test_evidence_says_which_clip_each_sample_is_from(tmp_path, sweep):
    def in_clips(opened):
        samples = SampleView(opened.evaluation, range(EVALUATION), "")
        samples.clusters = ("b", "b", "a", "a", "c")
        return replace(opened, evaluation=samples)

    study = sweep(tmp_path / "run", screen_samples=FEW, change=in_clips)
    folder = RunPaths(tmp_path / "run").evidence
    screen, scored = (load_evidence(folder, trial.number) for trial in same_map(study))
    assert scored.clusters.tolist() == [1, 1, 0, 0, 2]
    assert screen.clusters.tolist() == [[1, 1, 0, 0, 2][place] for place in spread_places(EVALUATION, FEW)]
    assert load_evidence(folder, 0).clusters.tolist() == [1, 1, 0, 0, 2]


def test_the_journal_reads_back_what_was_screened(screened):
    out, study = screened
    assert read_study(out).trials == study.trials
    assert [trial.outcome for trial in study.trials[3:]] == ["screened", "scored", "screened"]


def test_a_resumed_sweep_screens_nothing_twice(screened, sweep):
    out, study = screened
    assert sweep(out, screen_samples=FEW).trials == study.trials


@pytest.mark.parametrize("few", [0, EVALUATION, 100])
def test_without_fewer_samples_a_screen_is_a_full_score(few, sweep, tmp_path):
    study = sweep(tmp_path / "run", screen_samples=few)
    assert {trial.outcome for trial in study.trials} == {Outcome.SCORED}
    assert len(study.trials) == 5
    assert not any(trial.screen_scores for trial in study.trials)


def test_a_plan_counts_screens_apart():
    plan = plan_maps(example_layers(4), ScreensThenScores())
    assert len(plan.screens) == 1
    assert not plan.is_complete


@pytest.mark.parametrize(("wished", "expected"), [(0, 10), (3, 3), (10, 10), (12, 10)])
def test_number_of_samples_of_a_screen(wished, expected):
    assert screen_samples(wished, 10) == expected


def test_a_full_score_answers_a_screen_but_not_the_other_way_round():
    scored = Trial(0, FIRST, FIRST, Outcome.SCORED)
    screened = Trial(1, SECOND, SECOND, Outcome.SCREENED)
    requests = [Screen(FIRST), FIRST, Screen(SECOND), SECOND, SECOND]
    assert untried(requests, [scored, screened]) == [SECOND]
    failed = Trial(2, SECOND, None, Outcome.FAILED)
    assert untried(requests, [scored, failed]) == []


class OnlyOnAll(Metric):
    """A metric that cannot be had on few samples."""

    name = "only-on-all"
    lower_is_better = False
    needs_features = False
    needs_reference = False

    def __init__(self, metric):
        self._metric = metric

    def label(self, context):
        return self._metric.label(context)

    def start(self, context):
        if context.images < EVALUATION:
            raise ScoreError(f"{context.images} samples are too few")
        return self._metric.start(context)


def test_a_metric_that_cannot_be_had_on_few_samples_takes_no_part_in_screens(sweep, tmp_path):
    def replace_first(opened):
        first, *others = opened.metrics
        return replace(opened, metrics=(OnlyOnAll(first), *others))

    study = sweep(tmp_path / "run", screen_samples=FEW, change=replace_first)
    screen, scored = same_map(study)
    assert [score.metric for score in screen.scores] == ["ssim"]
    assert [score.metric for score in scored.scores] == ["psnr", "ssim"]
    assert [score.metric for score in scored.screen_scores] == ["ssim"]


@pytest.mark.parametrize(("few", "counts"), [(FEW, (3, 1)), (EVALUATION, (4, 0)), (0, (4, 0))])
def test_a_plan_counts_screens_on_all_samples_as_scores(few, counts, files):
    model, photos = files
    values = {"checkpoint": str(model), "calibration": str(photos), "metrics": ["psnr"], "threads": 1}
    samples = {"calibration_samples": 2, "evaluation_samples": EVALUATION, "screen_samples": few}
    opened = open_sweep(spec_from_values({**values, **samples}, "test"))
    planned = plan_sweep(replace(opened, strategy=ScreensThenScores()))
    assert (planned.maps, planned.screens) == counts

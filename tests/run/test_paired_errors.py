"""Paired errors within a run and between runs, against the plain formula."""

import math

import numpy as np
import pytest

from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Score, Trial
from qsens.run.evidence import Evidence, save_evidence
from qsens.run.paired_errors import Term, contrast_errors, paired_errors
from qsens.scoring.intervals import few_groups_factor, standard_error

N = 400


def plain_error(values):
    return float(values.std(ddof=1) / math.sqrt(N))


def keep(folder, number, values, factor=1.0):
    folder.mkdir(exist_ok=True)
    save_evidence(folder, number, Evidence(None, {"fid": values}))
    score = Score("fid", 1.0, N, "x", True, factor * plain_error(values))
    shape = PrecisionMap(Precision.INT8)
    return Trial(number, shape, shape, Outcome.SCORED, (score,))


@pytest.fixture
def draws():
    return np.random.default_rng(0).normal(size=(4, N))


def test_two_folders_are_paired_like_two_trials_of_one(tmp_path, draws):
    shared, own, other, _ = draws
    first, second = shared + 0.1 * own, shared + 0.1 * other
    one, same = keep(tmp_path / "a", 1, first), keep(tmp_path / "a", 2, second)
    far = keep(tmp_path / "b", 1, second)
    terms = (Term(1, tmp_path / "a", one), Term(-1, tmp_path / "b", far))
    between = contrast_errors()("fid", terms)
    assert between == pytest.approx(plain_error(first - second))
    assert between == pytest.approx(paired_errors(tmp_path / "a")("fid", one, same))
    assert between < 0.2 * math.hypot(plain_error(first), plain_error(second))


def test_a_difference_of_losses_takes_all_four(tmp_path, draws):
    terms = [
        Term(sign, tmp_path / name, keep(tmp_path / name, number, values))
        for (sign, name, number), values in zip(
            ((1, "b", 2), (-1, "b", 0), (-1, "a", 2), (1, "a", 0)), draws, strict=True
        )
    ]
    expected = plain_error(draws[0] - draws[1] - draws[2] + draws[3])
    assert contrast_errors()("fid", terms) == pytest.approx(expected)


def test_the_largest_factor_of_the_terms_is_applied(tmp_path, draws):
    one, other = keep(tmp_path / "a", 1, draws[0], 1.2), keep(tmp_path / "b", 1, draws[1], 1.7)
    terms = (Term(1, tmp_path / "a", one), Term(-1, tmp_path / "b", other))
    assert contrast_errors()("fid", terms) == pytest.approx(1.7 * plain_error(draws[0] - draws[1]))


def test_nothing_is_known_without_evidence_or_with_another_number_of_images(tmp_path, draws):
    one, fewer = keep(tmp_path / "a", 1, draws[0]), keep(tmp_path / "b", 1, draws[1][: N // 2])
    terms = (Term(1, tmp_path / "a", one), Term(-1, tmp_path / "b", fewer))
    assert contrast_errors()("fid", terms) is None
    assert contrast_errors()("fid", (terms[0], Term(-1, tmp_path / "c", one))) is None
    assert contrast_errors()("psnr", (terms[0], terms[0])) is None


def keep_frames(folder, number, values, error, clips):
    folder.mkdir(exist_ok=True)
    save_evidence(folder, number, Evidence(None, {"fid": values}, clips))
    shape = PrecisionMap(Precision.INT8)
    return Trial(number, shape, shape, Outcome.SCORED, (Score("fid", 1.0, len(values), "x", True, error),))


def test_frames_that_repeat_their_clip_count_once(tmp_path, draws):
    one, other = (values[:25] for values in draws[:2])
    clips = np.repeat(np.arange(25), 16)

    def error_of_clips(values):
        return values.std(ddof=1) / math.sqrt(25)

    trials = [
        keep_frames(tmp_path, number, np.repeat(values, 16), 1.2 * error_of_clips(values), clips)
        for number, values in enumerate((one, other))
    ]
    assert paired_errors(tmp_path)("fid", *trials) == pytest.approx(1.2 * error_of_clips(one - other))


def test_what_makes_the_frames_of_a_clip_alike_cancels_in_a_difference(tmp_path):
    clips = np.repeat(np.arange(20), 20)
    spread = []
    errors = []
    for seed in range(120):
        random = np.random.default_rng(seed)
        shared = random.normal(size=20)[clips]
        one, other = (shared + 0.3 * random.normal(size=N) for _ in range(2))
        trials = [
            keep_frames(tmp_path, number, values, standard_error(values, clips), clips)
            for number, values in enumerate((one, other))
        ]
        spread.append((one - other).mean())
        errors.append(paired_errors(tmp_path)("fid", *trials))
    assert np.mean(errors) / few_groups_factor(20) == pytest.approx(np.std(spread), rel=0.2)


def clip_error(values, clips):
    """Textbook variance of a mean in clips, a loop over clips."""
    labels = sorted(set(clips.tolist()))
    sums = [sum(float(value) for value in values[clips == label]) for label in labels]
    middle = sum(sums) / len(sums)
    squares = sum((value - middle) ** 2 for value in sums)
    return math.sqrt(squares * len(sums) / (len(sums) - 1)) / len(values)


def test_clips_of_unequal_length_and_a_factor_each(tmp_path, draws):
    clips = np.sort(np.random.default_rng(1).integers(0, 30, N))
    values = draws[:2] + draws[2][clips]
    trials = [
        keep_frames(tmp_path, number, each, factor * clip_error(each, clips), clips)
        for number, (each, factor) in enumerate(zip(values, (1.3, 1.1), strict=True))
    ]
    expected = 1.3 * clip_error(values[0] - values[1], clips)
    assert paired_errors(tmp_path)("fid", *trials) == pytest.approx(expected)


def test_labels_of_one_speak_for_evidence_of_older_versions(tmp_path, draws):
    clips = np.repeat(np.arange(40), 10)
    with_labels = keep_frames(tmp_path, 0, draws[0], clip_error(draws[0], clips), clips)
    without = keep_frames(tmp_path, 1, draws[1], clip_error(draws[1], clips), None)
    expected = clip_error(draws[0] - draws[1], clips)
    assert paired_errors(tmp_path)("fid", with_labels, without) == pytest.approx(expected)


def test_labels_that_contradict_each_other_are_left_to_the_factor(tmp_path, draws):
    clips = np.repeat(np.arange(40), 10)
    one = keep_frames(tmp_path, 0, draws[0], 1.5 * plain_error(draws[0]), clips)
    other = keep_frames(tmp_path, 1, draws[1], plain_error(draws[1]), clips // 2)
    expected = 1.5 * plain_error(draws[0] - draws[1])
    assert paired_errors(tmp_path)("fid", one, other) == pytest.approx(expected)


def test_one_clip_says_nothing(tmp_path, draws):
    trials = [keep_frames(tmp_path, number, draws[number], 1.0, np.zeros(N, int)) for number in (0, 1)]
    assert paired_errors(tmp_path)("fid", *trials) is None

import numpy as np
import pytest
from annotated_sets import FrameSet, context_of, frames_of, pictures

from qsens.core.errors import ScoreError, SpecError
from qsens.core.interfaces import ScoredBatch
from qsens.scoring.intervals import few_groups_factor, standard_error
from qsens.testing import check_metric
from qsens.zoo.metrics.flicker import Flicker


def measure(annotations, images, baseline, *, size=None):
    state = Flicker().start(context_of(FrameSet(annotations)))
    size = size or len(images)
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        state.update(ScoredBatch(start, images[part], baseline[part], None))
    return state.compute()


def pairs_by_hand(annotations, images, baseline):
    """Mean absolute difference of the two changes, by clip, for every pair of neighbours."""
    where = {(known["clip"], known["frame"]): index for index, known in enumerate(annotations)}
    found = {}
    for (clip, frame), index in where.items():
        after = where.get((clip, frame + 1))
        if after is not None:
            change = images[after].astype(float) - images[index]
            expected = baseline[after].astype(float) - baseline[index]
            found.setdefault(clip, []).append(np.abs(change - expected).mean())
    return found


def test_fp32_does_not_flicker():
    images = pictures(6)
    assert measure(frames_of(a=4, b=2), images, images).score.value == 0.0


def test_an_error_that_stands_still_is_no_flicker_and_one_that_blinks_is_twice_its_size():
    baseline = np.full((4, 3, 8, 8), 100, np.uint8)
    still = baseline + 5
    blinking = baseline + np.array([3, 0, 3, 0], np.uint8)[:, None, None, None]
    both_ways = np.stack([baseline[0] + 3, baseline[1] - 3, baseline[2] + 3, baseline[3] - 3])
    assert measure(frames_of(a=4), still, baseline).score.value == 0.0
    assert measure(frames_of(a=4), blinking, baseline).score.value == 3.0
    assert measure(frames_of(a=4), both_ways, baseline).score.value == 6.0


def test_full_swings_do_not_overflow():
    baseline = np.stack([np.zeros((3, 4, 4), np.uint8), np.full((3, 4, 4), 255, np.uint8)])
    assert measure(frames_of(a=2), baseline[::-1].copy(), baseline).score.value == 510.0


@pytest.mark.parametrize("size", [1, 3, 12])
def test_neighbours_are_paired_within_clips_in_any_order_and_batching(size):
    annotations = frames_of(a=5, b=4, c=3)
    order = np.random.default_rng(1).permutation(len(annotations))
    shuffled = [annotations[index] for index in order]
    images, baseline = pictures(12, 16, seed=1), pictures(12, 16, seed=2)
    by_clip = pairs_by_hand(shuffled, images, baseline)
    measured = measure(shuffled, images, baseline, size=size)
    every = np.concatenate(list(by_clip.values()))
    assert len(every) == 4 + 3 + 2
    assert measured.score.value == pytest.approx(every.mean())
    assert measured.score.difference == measured.score.value


def test_the_standard_error_is_that_of_a_ratio_over_clips():
    annotations = frames_of(a=5, b=4, c=3)
    images, baseline = pictures(12, 16, seed=1), pictures(12, 16, seed=2)
    images[:5] = baseline[:5]  # one clip is untouched, so clips differ
    by_clip = pairs_by_hand(annotations, images, baseline)
    measured = measure(annotations, images, baseline)
    sums = np.array([np.sum(np.array(values) - measured.score.value) for values in by_clip.values()])
    expected = np.sqrt(np.square(sums).sum() * 3 / 2) / 9 * few_groups_factor(3)
    assert measured.score.standard_error == pytest.approx(expected)
    assert standard_error(measured.influence, np.repeat([0, 1, 2], [5, 4, 3])) == pytest.approx(expected)
    assert measured.influence.mean() == pytest.approx(0, abs=1e-12)


def test_keeps_the_contract_of_metrics():
    check_metric(Flicker)


def test_needs_consecutive_frames():
    samples = FrameSet([{"clip": "a", "frame": 0}, {"clip": "a", "frame": 2}, {"clip": "b", "frame": 1}])
    with pytest.raises(SpecError, match="3 samples of 2 clips, the longest run of consecutive frames is 1"):
        Flicker().start(context_of(samples))


def test_refuses_pictures_of_another_size():
    state = Flicker().start(context_of(FrameSet(frames_of(a=2))))
    with pytest.raises(ScoreError, match="against FP32 images of"):
        state.update(ScoredBatch(0, pictures(2, 8), pictures(2, 16), None))


def test_says_when_no_pair_was_scored():
    with pytest.raises(ScoreError, match="no two consecutive frames were scored"):
        Flicker().start(context_of(FrameSet(frames_of(a=2)))).compute()

"""ColorVideoVDP as a metric, against its authors' package on the same pictures; its package is an extra."""

import pickle

import numpy as np
import pytest
from annotated_sets import FrameSet, context_of, frames_of

from qsens.core.errors import LoadError, SpecError
from qsens.core.interfaces import ScoredBatch
from qsens.scoring import jod
from qsens.scoring.cpu_torchvision import import_torchvision
from qsens.testing import check_metric

BEFORE = np.random.default_rng(0).integers(20, 230, (5, 3, 32, 40), dtype=np.uint8)
# Noise of its own in every frame: flicker, where the frames are a video.
AFTER = BEFORE + np.random.default_rng(1).integers(0, 20, BEFORE.shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def package():
    if jod.problem() is not None:
        pytest.skip(jod.problem())
    import_torchvision()
    import pycvvdp

    return pycvvdp


def score_of(samples, images=AFTER, metric=None, batch=2):
    accumulator = (metric or jod.Jod()).start(context_of(samples, len(images)))
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        accumulator.update(ScoredBatch(start, images[part], BEFORE[part], None))
    return accumulator.compute().score


def predicted(package, places, speed):
    import torch

    viewer = package.cvvdp(display_name="standard_4k", device=torch.device("cpu"), quiet=True)
    sides = [np.ascontiguousarray(side[places].transpose(0, 2, 3, 1)) for side in (AFTER, BEFORE)]
    return float(viewer.predict(*sides, dim_order="FHWC", frames_per_second=speed)[0])


@pytest.mark.slow
def test_stills_score_as_the_package_says(package):
    expected = [predicted(package, [place], 0) for place in range(5)]
    score = score_of(None)
    assert score.value == pytest.approx(np.mean(expected), abs=1e-4)
    assert 5 < score.value < 10
    assert score.difference == pytest.approx(score.value - 10)
    assert not score.lower_is_better


@pytest.mark.slow
def test_frames_of_a_clip_are_judged_as_a_video_and_others_as_stills(package):
    samples = FrameSet([*frames_of(a=3), {"clip": "b", "frame": 0}, {"clip": "b", "frame": 5}])
    video = predicted(package, [0, 1, 2], 25)
    stills = [predicted(package, [place], 0) for place in (3, 4)]
    score = score_of(samples)
    assert score.value == pytest.approx((3 * video + sum(stills)) / 5, abs=1e-4)
    assert "moving=3" in score.against
    assert score_of(samples, batch=5).value == pytest.approx(score.value, abs=1e-5)


@pytest.mark.slow
def test_equal_pictures_score_ten_and_the_metric_keeps_its_contract(package):
    assert score_of(FrameSet(frames_of(a=5)), images=BEFORE).value == 10.0
    check_metric(lambda: pickle.loads(pickle.dumps(jod.Jod())))


@pytest.mark.slow
def test_another_display_is_another_score(package):
    phone = score_of(None, metric=jod.Jod(display="standard_phone"))
    assert phone.value != score_of(None).value
    assert phone.against != score_of(None).against


def test_displays_have_the_names_of_the_package(monkeypatch):
    monkeypatch.setattr(jod, "display_names", lambda: ("standard_4k", "standard_fhd"))
    with pytest.raises(SpecError, match="no display 'standard_4kk'") as caught:
        jod.Jod(display="standard_4kk")
    assert caught.value.hint == "did you mean 'standard_4k'?"
    with pytest.raises(SpecError, match="frames_per_second=0"):
        jod.Jod(frames_per_second=0)


def test_without_its_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(jod, "PACKAGE", "no_such_package_here")
    with pytest.raises(LoadError, match="no_such_package_here") as caught:
        jod.Jod()
    assert "qsens[jod]" in caught.value.hint
    assert "qsens[jod]" in str(jod.problem())

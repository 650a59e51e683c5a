import pytest
from annotated_sets import FrameSet

from qsens.core.errors import SpecError
from qsens.scoring.consecutive import FrameRun, clip_frames


def places(*pairs):
    return FrameSet({"clip": clip, "frame": frame} for clip, frame in pairs)


def test_runs_end_at_gaps_and_at_clips_in_any_order():
    samples = places(("b", 7), ("a", 2), ("a", 0), ("a", 1), ("a", 9), ("b", 8))
    assert clip_frames(samples, "test").runs == (
        FrameRun("a", 0, (2, 3, 1)),
        FrameRun("a", 9, (4,)),
        FrameRun("b", 7, (0, 5)),
    )


def test_a_frame_shown_twice_counts_once():
    frames = clip_frames(places(("a", 0), ("a", 0), ("a", 1)), "test")
    assert frames.runs == (FrameRun("a", 0, (0, 2)),)
    assert frames.clips == ("a", "a", "a")


@pytest.mark.parametrize(
    ("samples", "message"),
    [(None, "given none"), (FrameSet([{}, {}]), "'clip'"), (FrameSet([{"clip": "a"}]), "'frame'")],
)
def test_a_set_without_frames_is_named(samples, message):
    with pytest.raises(SpecError, match=message) as caught:
        clip_frames(samples, "flicker")
    assert "flicker" in caught.value.message
    assert caught.value.hint

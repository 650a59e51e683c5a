"""Runs of consecutive frames in an evaluation set."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from qsens.core.errors import SpecError
from qsens.core.interfaces import SampleSet


@dataclass(frozen=True)
class FrameRun:
    """Samples that show consecutive frames of one clip.

    `indices`: places in the set, one a frame, in the order of the frames; `first_frame`: number of the
    first frame in its clip.
    """

    clip: str
    first_frame: int
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class ClipFrames:
    """The frames and clips that an evaluation set shows.

    `clips`: the clip of each sample. `runs`: the longest runs of consecutive frames, sorted by clip and
    frame; a frame without neighbours is a run of one.
    """

    clips: tuple[str, ...]
    runs: tuple[FrameRun, ...]

    @property
    def longest(self) -> int:
        """Frames of the longest run, 0 without any."""
        return max((len(run) for run in self.runs), default=0)

    def summary(self) -> str:
        """Counts, for messages.

        >>> ClipFrames(("a", "a", "b"), (FrameRun("a", 0, (0, 1)), FrameRun("b", 0, (2,)))).summary()
        '3 samples of 2 clips, the longest run of consecutive frames is 2'
        """
        return (
            f"{len(self.clips)} samples of {len(set(self.clips))} clips, the longest run of consecutive "
            f"frames is {self.longest}"
        )


def clip_frames(samples: SampleSet | None, who: str) -> ClipFrames:
    """The clips and the runs of consecutive frames of an evaluation set.

    Of samples that show the same frame of a clip the first counts. `who` is the metric that asks.

    Raises:
        SpecError: if there is no set, or a sample states no clip or no frame number.
    """
    places = _places(samples, who)
    by_clip: dict[str, dict[int, int]] = defaultdict(dict)
    for index, (clip, frame) in enumerate(places):
        by_clip[clip].setdefault(frame, index)
    runs = tuple(run for clip in sorted(by_clip) for run in _runs_of_clip(clip, by_clip[clip]))
    return ClipFrames(tuple(clip for clip, _ in places), runs)


def annotated_set(samples: SampleSet | None, key: str, who: str) -> SampleSet:
    """The set, whose samples state `key`.

    Raises:
        SpecError: saying which sets do.
    """
    if samples is None:
        raise SpecError(f"{who} reads annotations of the samples, but was given none", "pass the samples")
    if len(samples) and key not in samples.annotation(0):
        hint = {
            "mouth": "score on a procedural corpus (qsens zoo corpus --out DIR), which knows the true mouth",
        }.get(key, "score on a folder of clips (qsens zoo corpus or qsens zoo prepare make them)")
        raise SpecError(
            f"{who} needs {key!r} of every sample; the set {samples.name!r} does not know it", hint
        )
    return samples


def _places(samples: SampleSet | None, who: str) -> list[tuple[str, int]]:
    known = annotated_set(annotated_set(samples, "clip", who), "frame", who)
    annotations = (known.annotation(index) for index in range(len(known)))
    return [(str(annotation["clip"]), int(annotation["frame"])) for annotation in annotations]


def _runs_of_clip(clip: str, index_of_frame: dict[int, int]) -> list[FrameRun]:
    groups: list[list[int]] = []
    for frame in sorted(index_of_frame):
        if not groups or frame != groups[-1][-1] + 1:
            groups.append([])
        groups[-1].append(frame)
    return [FrameRun(clip, group[0], tuple(index_of_frame[frame] for frame in group)) for group in groups]

"""JOD: how much of a difference from FP32's pictures people see, flicker included."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from qsens.core.errors import LoadError, ScoreError, SpecError, install_hint, name_hint
from qsens.core.interfaces import Measurement, Metric, ScoredBatch, ScoringContext
from qsens.core.metric_names import BUILT_IN
from qsens.scoring.consecutive import FrameRun, clip_frames
from qsens.scoring.cpu_torchvision import import_torchvision
from qsens.scoring.fidelity import Images, check_pair, mean_of, measured_beside_fp32

PACKAGE = "pycvvdp"
_HINT = install_hint("jod")


def problem() -> str | None:
    """The reason that this metric cannot be had here, `None` where it can."""
    return None if find_spec(PACKAGE) else f"no {PACKAGE}: {_HINT}"


def display_names() -> tuple[str, ...]:
    """The displays of ColorVideoVDP that show sRGB, by the package's own names.

    Raises:
        LoadError: where the package is not installed.
    """
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise LoadError(f"the metric 'jod' needs the package {PACKAGE}, which is not installed", _HINT)
    models = json.loads((Path(found.origin).parent / "vvdp_data" / "display_models.json").read_text())
    return tuple(name for name, model in models.items() if "colorspace" not in model)


class Jod(Metric):
    """ColorVideoVDP's score of a map's pictures against FP32's: 10 is no visible difference, less is worse.

    One just-objectionable difference less means that 75 % of viewers prefer the other. Mantiuk et al. 2024,
    "ColorVideoVDP: A visual difference predictor for image, video and display distortions", as its authors'
    package `cvvdp` computes it. Frames that follow each other in a clip are judged as a video, so that
    flicker counts, and share its score; all other pictures are judged as stills. The score is the mean over
    pictures. `display` is one of `display_names()`; `frames_per_second` is the speed of the clips.

    Raises:
        SpecError: for a display that the package does not know, or no speed.
        LoadError: where the package is not installed.
    """

    name = "jod"
    lower_is_better = False
    needs_features = False
    needs_reference = False
    is_slow = True
    facts = BUILT_IN["jod"]

    def __init__(self, display: str = "standard_4k", frames_per_second: float = 25.0) -> None:
        known = display_names()
        if display not in known:
            hint = name_hint(display, known, f"displays: {', '.join(known)}")
            raise SpecError(f"the metric 'jod' knows no display {display!r}", hint)
        if not frames_per_second > 0:
            raise SpecError(f"jod's frames_per_second={frames_per_second}", "state the speed of the clips")
        self._display = display
        self._frames_per_second = frames_per_second

    def label(self, context: ScoringContext) -> str:
        return self.name

    def start(self, context: ScoringContext) -> _JodAccumulator:
        return _JodAccumulator(self, context)

    @property
    def viewing(self) -> str:
        """The conditions that scores must share to be compared."""
        return f"display={self._display} frames_per_second={self._frames_per_second:g}"

    def of_stills(self, images: Images, baseline: Images) -> Sequence[float]:
        """JOD of each picture, uint8 (N, 3, H, W) RGB."""
        return self._predicted(images[:, :, None], baseline[:, :, None], "BCFHW", 0.0)

    def of_video(self, images: Images, baseline: Images) -> float:
        """JOD of consecutive frames, uint8 (N, 3, H, W) RGB."""
        return self._predicted(images, baseline, "FCHW", self._frames_per_second)[0]

    def _predicted(self, images: Images, baseline: Images, layout: str, speed: float) -> Sequence[float]:
        import torch  # deferred: heavy

        sides = [torch.from_numpy(np.ascontiguousarray(side)) for side in (images, baseline)]
        with torch.inference_mode():
            predicted, _ = _viewer(self._display).predict(*sides, dim_order=layout, frames_per_second=speed)
        return [float(value) for value in predicted.reshape(-1)]


# Reading its tables takes longer than a score, and every metric of a display has the same.
@cache
def _viewer(display: str) -> Any:
    import_torchvision()
    import pycvvdp  # deferred: loads torch
    import torch

    return pycvvdp.cvvdp(display_name=display, device=torch.device("cpu"), quiet=True)


class _JodAccumulator:
    """Judges stills batch by batch, and the frames of a video once the last of them has come."""

    def __init__(self, metric: Jod, context: ScoringContext) -> None:
        self._metric = metric
        self._context = context
        self._video_of = _videos(context)
        self._waiting: dict[int, tuple[Images, Images]] = {}
        self._values: dict[int, float] = {}
        self._seen: list[int] = []

    def update(self, batch: ScoredBatch) -> None:
        """Raises `ScoreError` if the two sides differ in shape, `DataError` for images that are not uint8."""
        check_pair(batch)
        places = range(batch.start, batch.start + len(batch.images))
        self._seen += places
        stills = [offset for offset, place in enumerate(places) if place not in self._video_of]
        if stills:
            values = self._metric.of_stills(batch.images[stills], batch.baseline[stills])
            self._values |= {
                batch.start + offset: value for offset, value in zip(stills, values, strict=True)
            }
        for offset, place in enumerate(places):
            if place in self._video_of:
                self._waiting[place] = (batch.images[offset], batch.baseline[offset])
                if all(other in self._waiting for other in self._video_of[place].indices):
                    self._judge(self._video_of[place])

    def compute(self) -> Measurement:
        """Raises `ScoreError` if nothing was scored."""
        for video in {self._video_of[place] for place in self._waiting}:
            self._judge(video)
        if not self._seen:
            raise ScoreError("no image was scored", "pass at least one batch")
        values = np.array([self._values[place] for place in self._seen])
        frames = sum(place in self._video_of for place in self._seen)
        moving = "all" if frames == len(self._seen) else frames
        against = f"fp32 {self._metric.viewing} moving={moving}"
        return measured_beside_fp32(self._metric, self._context, mean_of(values), self._clusters(), against)

    def _judge(self, video: FrameRun) -> None:
        """The frames of a video that have come, which wait no longer."""
        places = [place for place in video.indices if place in self._waiting]
        images, baseline = (
            np.stack(side) for side in zip(*(self._waiting.pop(place) for place in places), strict=True)
        )
        self._values |= dict.fromkeys(places, self._metric.of_video(images, baseline))

    def _clusters(self) -> np.ndarray[Any, np.dtype[Any]]:
        """Labels of correlated pictures: the context's, else frames of one video."""
        if self._context.clusters is not None:
            return np.asarray(self._context.clusters[self._seen])
        first = {place: video.indices[0] for place, video in self._video_of.items()}
        return np.array([first.get(place, place) for place in self._seen])


def _videos(context: ScoringContext) -> Mapping[int, FrameRun]:
    """The run of consecutive frames that a sample belongs to, by its place; stills are left out."""
    samples = context.samples
    if samples is None or not {"clip", "frame"} <= samples.annotation(0).keys():
        return {}
    runs = [run for run in clip_frames(samples, Jod.name).runs if len(run) > 1]
    return {place: run for run in runs for place in run.indices}

"""Evaluation sets in memory whose samples are frames of clips."""

import numpy as np

from qsens.core.interfaces import ScoringContext


class FrameSet:
    """Samples from dicts of annotations; `inputs` are their arrays by graph input."""

    name = "frames"
    digest = "d" * 16

    def __init__(self, annotations, inputs=None):
        self._annotations = list(annotations)
        self._inputs = inputs
        self.clusters = tuple(str(known.get("clip")) for known in self._annotations)

    def __len__(self):
        return len(self._annotations)

    def sample(self, index):
        return self._inputs[index]

    def annotation(self, index):
        return self._annotations[index]

    def describe(self):
        return {}


def frames_of(**counts):
    """Annotations of the first frames of clips: `frames_of(a=3)` are a/0, a/1, a/2."""
    return [{"clip": clip, "frame": frame} for clip, count in counts.items() for frame in range(count)]


def context_of(samples, count=None):
    clusters = None
    if samples is not None:
        clusters = np.unique(samples.clusters, return_inverse=True)[1]
    images = count if samples is None else len(samples)
    return ScoringContext(images or 0, None, None, None, None, "e" * 16, clusters, samples)


def pictures(count, side=96, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), dtype=np.uint8)

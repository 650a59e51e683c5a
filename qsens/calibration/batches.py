"""Feeding an engine: samples stacked into batches, as far as they can share one."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from qsens.calibration.plays import ONCE, played, spans
from qsens.core.errors import ScoreError
from qsens.core.interfaces import Engine, Loop, SampleSet
from qsens.graph.graph import Graph

# Preprocessed inputs are kept up to this size; beyond it they are read again for every map.
INPUT_CACHE_BYTES = 256 * 2**20
Array = np.ndarray[Any, np.dtype[Any]]
Feed = Mapping[str, Array]


class InputCache:
    """Preprocessed inputs in batches, kept in memory while they fit.

    Samples share a batch where the graph can batch, and where they hold the same value in every input
    without a batch axis and the same sizes in all others: a batch never changes what a sample is. For a loop
    that plays clips the frames of one clip are a batch, and each is fed by itself.

    Raises:
        DataError: for such a loop and samples without clips.
    """

    def __init__(self, samples: SampleSet, graph: Graph, batch_size: int, loop: Loop = ONCE) -> None:
        self._samples = samples
        self.loop = loop
        self._spans = spans(samples, batch_size, loop)
        self._can_batch = graph.can_batch and not loop.plays_clips
        self._batched = {spec.name for spec in graph.inputs if spec.is_batched}
        self._kept: dict[int, list[Feed]] = {}
        self._kept_bytes = 0

    def batches(self) -> Iterator[list[Feed]]:
        """The feeds to run, in order, of `batch_size` samples together: one, or more where those differ."""
        for places in self._spans:
            start = places.start
            if start in self._kept:
                yield self._kept[start]
                continue
            feeds = self.feeds([self._samples.sample(index) for index in places])
            size_bytes = sum(value.nbytes for feed in feeds for value in feed.values())
            if self._kept_bytes + size_bytes <= INPUT_CACHE_BYTES:
                self._kept[start] = feeds
                self._kept_bytes += size_bytes
            yield feeds

    @property
    def sample_count(self) -> int:
        return len(self._samples)

    def count_from(self, start: int) -> int:
        """The number of samples in the batch that begins with the sample at `start`."""
        return len(next(places for places in self._spans if places.start == start))

    def singly(self) -> Iterator[Feed]:
        """The feeds to run, in order, one by one: of one sample each where `batch_size` is 1."""
        for feeds in self.batches():
            yield from feeds

    def alone(self, index: int) -> Feed:
        """The feed of one sample by itself."""
        return self._stacked([self._samples.sample(index)])

    def filled(self, count: int) -> Feed:
        """A feed of exactly `count`: the first samples that can share one, repeated if need be."""
        first = self._samples.sample(0)
        others = (self._samples.sample(index) for index in range(1, min(count, len(self._samples))))
        alike = [first, *(other for other in others if not self.kept_apart_by(first, other))]
        return self._stacked([alike[place % len(alike)] for place in range(count)])

    def feeds(self, samples: Sequence[Feed]) -> list[Feed]:
        """Samples with their batch axes, in as few feeds as keep their order and their values."""
        groups: list[list[Feed]] = []
        for sample in samples:
            if groups and self._can_batch and not self.kept_apart_by(groups[-1][0], sample):
                groups[-1].append(sample)
            else:
                groups.append([sample])
        return [self._stacked(group) for group in groups]

    def kept_apart_by(self, first: Feed, other: Feed) -> list[str]:
        """Names of the inputs for which two samples, or two feeds, cannot share a batch."""
        return [
            name
            for name in first
            if first[name].shape != other[name].shape
            or (name not in self._batched and not np.array_equal(first[name], other[name]))
        ]

    def _stacked(self, samples: Sequence[Feed]) -> Feed:
        return {
            name: np.stack([sample[name] for sample in samples]) if name in self._batched else value
            for name, value in samples[0].items()
        }


def batching_note(samples: SampleSet, graph: Graph, batch_size: int) -> str | None:
    """A sentence on samples that do not run `batch_size` at a time, as the first ones show; else `None`."""
    wished = min(batch_size, len(samples))
    if wished == 1:
        return None
    if graph.why_single is not None:
        return f"samples run one at a time, not {wished}: {graph.why_single}"
    if all(spec.is_batched and None not in spec.shape for spec in graph.inputs):
        return None
    cache = InputCache(samples, graph, wished)
    first = [samples.sample(index) for index in range(wished)]
    apart = {name for one, other in pairwise(first) for name in cache.kept_apart_by(one, other)}
    if not apart:
        return None
    listed = ", ".join(map(repr, sorted(apart)))
    reason = (
        "sizes differ"
        if apart <= {spec.name for spec in graph.inputs if spec.is_batched}
        else "no batch axis"
    )
    return f"of {wished} samples, those that differ in {listed} run apart ({reason})"


def run_feeds(engine: Engine, feeds: Sequence[Feed], loop: Loop = ONCE) -> dict[str, Array]:
    """Outputs of all feeds, as the loop makes them, joined along the batch axis.

    One without axes becomes one value a feed.

    Raises:
        ScoreError: for an output whose size differs from sample to sample, and as `played`.
    """
    outputs = played(loop, engine.run, feeds)
    if len(outputs) == 1:
        return dict(outputs[0])
    return {name: _joined(name, [np.atleast_1d(one[name]) for one in outputs]) for name in outputs[0]}


def _joined(name: str, values: Sequence[Array]) -> Array:
    other = next((value for value in values if value.shape[1:] != values[0].shape[1:]), None)
    if other is not None:
        raise ScoreError(
            f"output {name!r} is {values[0].shape[1:]} for one sample and {other.shape[1:]} for another",
            "give samples that make pictures of one size",
        )
    return np.concatenate(values)

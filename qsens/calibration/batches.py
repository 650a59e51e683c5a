"""Feeding an engine: samples stacked into batches, or one by one where the graph cannot batch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from qsens.core.interfaces import Engine, SampleSet
from qsens.graph.graph import Graph

# Preprocessed inputs are kept up to this size; beyond it they are read again for every map.
INPUT_CACHE_BYTES = 256 * 2**20
Array = np.ndarray[Any, np.dtype[Any]]
Feed = Mapping[str, Array]


class InputCache:
    """Preprocessed inputs in batches, kept in memory while they fit."""

    def __init__(self, samples: SampleSet, graph: Graph, batch_size: int) -> None:
        self._samples = samples
        self._batch_size = batch_size
        self._can_batch = graph.can_batch
        self._batched = {spec.name for spec in graph.inputs if spec.is_batched}
        self._kept: dict[int, list[Feed]] = {}
        self._kept_bytes = 0

    def batches(self) -> Iterator[list[Feed]]:
        """The feeds to run, in order: one a batch, or one a sample where the graph cannot batch."""
        for start in range(0, len(self._samples), self._batch_size):
            if start in self._kept:
                yield self._kept[start]
                continue
            stop = min(start + self._batch_size, len(self._samples))
            feeds = self.feeds([self._samples.sample(index) for index in range(start, stop)])
            size_bytes = sum(value.nbytes for feed in feeds for value in feed.values())
            if self._kept_bytes + size_bytes <= INPUT_CACHE_BYTES:
                self._kept[start] = feeds
                self._kept_bytes += size_bytes
            yield feeds

    @property
    def sample_count(self) -> int:
        return len(self._samples)

    def singly(self) -> Iterator[Feed]:
        """The feeds to run, in order, one sample at a time."""
        for feeds in self.batches():
            yield from feeds

    def feeds(self, samples: Sequence[Feed]) -> list[Feed]:
        """Samples with their batch axes."""
        groups = [samples] if self._can_batch else [[sample] for sample in samples]
        return [{name: self._stacked(name, group) for name in group[0]} for group in groups]

    def _stacked(self, name: str, samples: Sequence[Feed]) -> Array:
        if name not in self._batched:
            return samples[0][name]
        return np.stack([sample[name] for sample in samples])


def run_feeds(engine: Engine, feeds: Sequence[Feed]) -> dict[str, Array]:
    """Outputs of all feeds, joined along the batch axis."""
    outputs = [engine.run(feed) for feed in feeds]
    if len(outputs) == 1:
        return dict(outputs[0])
    return {name: np.concatenate([one[name] for one in outputs]) for name in outputs[0]}

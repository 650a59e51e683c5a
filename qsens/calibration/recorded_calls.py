"""The calls that a loop makes of samples in FP32: what a looping generator is calibrated on."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from qsens.calibration.plays import Call, Feed, played, spans, with_batch, without_batch
from qsens.core.errors import DataError
from qsens.core.files import keep_record, kept_record, write_atomically
from qsens.core.interfaces import InputSpec, Loop, Progress, SampleSet
from qsens.device.goldens import relative_error
from qsens.device.npz_sizes import read_arrays
from qsens.graph.graph import Graph
from qsens.graph.onnx_run import open_session, run

# Ranges of a tensor settle on fewer; every step has its share of them.
MOST_CALLS = 256
MOST_BYTES = 2**29
# Between two plays of the same samples in FP32; rounding stays far below it.
LARGEST_DIFFERENCE = 1e-3
Array = np.ndarray[Any, np.dtype[Any]]


def calls_digest(samples_digest: str, loop: Mapping[str, Any]) -> str:
    """The digest of the calls that a loop makes of a set; that of the set where there is no loop."""
    if not loop:
        return samples_digest
    return hashlib.sha256(
        json.dumps([samples_digest, dict(loop), MOST_CALLS], sort_keys=True).encode()
    ).hexdigest()


@dataclass(frozen=True)
class Extremes:
    """The least and the largest value of each input in the calls at one step, by name."""

    ends: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class RecordedCall:
    """The sample that a call was made for, its place among the calls of the play, and its clip or sample."""

    sample: int
    step: int
    cluster: str


@dataclass(frozen=True)
class CallFacts:
    """Everything about recorded calls but their arrays.

    `total` calls were made of `samples` samples, of which `calls` are kept. `steps` are the ends of the
    inputs over all of them, step by step.
    """

    digest: str
    name: str
    samples: int
    total: int
    calls: tuple[RecordedCall, ...]
    steps: tuple[Extremes, ...]


@dataclass(frozen=True, eq=False)
class RecordedCalls(SampleSet):
    """Calls as samples of the network: all inputs of each, by step and then by sample.

    `arrays` has one mapping a call; they are read from `path` where it is empty.
    """

    facts: CallFacts
    path: Path | None = None
    arrays: tuple[Feed, ...] = ()

    @property
    def name(self) -> str:  # type: ignore[override]
        """That of the samples."""
        return self.facts.name

    @property
    def digest(self) -> str:
        """sha256 over the samples' digest and the loop."""
        return self.facts.digest

    @property
    def clusters(self) -> tuple[str, ...]:  # type: ignore[override]
        """The clip, or the sample, that each call was made for."""
        return tuple(call.cluster for call in self.facts.calls)

    def __len__(self) -> int:
        return len(self.facts.calls)

    def sample(self, index: int) -> Feed:
        """The inputs of one call. Raises `DataError` where the file is gone or damaged."""
        return (self.arrays or self._read)[index]

    @cached_property
    def _read(self) -> tuple[Feed, ...]:
        assert self.path is not None, "calls are in memory or in a file"
        try:
            return _feeds_from_arrays(read_arrays(self.path), self.facts)
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"cannot read {self.path}: {error}",
                "remove it and sweep again: the same command makes it anew",
            ) from error

    def annotation(self, index: int) -> Mapping[str, Any]:
        """The `step` of the call, and the place of its `sample`."""
        return asdict(self.facts.calls[index])

    def describe(self) -> Mapping[str, str]:
        """The counts."""
        facts = self.facts
        made = f"{facts.total} calls of {facts.samples} samples, {facts.total / facts.samples:g} each"
        return {"name": facts.name, "count": f"{len(self)} of {made}"}

    def of_samples(self, places: Sequence[int]) -> list[int]:
        """Places of the calls that were made for these samples."""
        wanted = set(places)
        return [place for place, call in enumerate(self.facts.calls) if call.sample in wanted]


def record_calls(
    loop: Loop, samples: SampleSet, graph: Graph, *, digest: str, threads: int, progress: Progress
) -> RecordedCalls:
    """Play the loop in FP32 over samples, and keep at most `MOST_CALLS` of its calls, as many of each step.

    The first play is made twice.

    Raises:
        DataError: for samples without clips where the loop plays clips, or a loop that makes other pictures
            of the same samples.
        ScoreError, PluginError: as `played`.
    """
    recorder = _Recorder(graph.inputs)
    network = fp32_call(graph, threads)
    groups = spans(samples, 1, loop)
    for number, places in enumerate(groups):
        progress(number, len(groups), "calibrating: playing the loop")
        feeds = [with_batch(samples.sample(place), graph.inputs) for place in places]
        made = played(loop, recorder.recording(network, places, samples.clusters), feeds)
        if number == 0:
            _refuse_other_pictures(made, played(loop, network, feeds))
    calls, arrays = recorder.kept()
    facts = CallFacts(digest, samples.name, len(samples), recorder.total, calls, recorder.steps())
    return RecordedCalls(facts, arrays=arrays)


def fp32_call(graph: Graph, threads: int) -> Call:
    """One call of the FP32 graph. Raises `LoadError` where it cannot run."""
    session = open_session(graph.model, threads=threads)
    names = [output.name for output in session.get_outputs()]
    return lambda feed: dict(zip(names, run(session, feed), strict=True))


def _refuse_other_pictures(first: Sequence[Feed], again: Sequence[Feed]) -> None:
    for one, other in zip(first, again, strict=True):
        for name, values in one.items():
            if values.dtype.kind != "f":
                continue
            same = name in other and other[name].shape == values.shape
            error = relative_error(other[name], values) if same else np.inf
            if not error <= LARGEST_DIFFERENCE:
                raise DataError(
                    f"the loop makes another {name!r} of the same sample when it is played again, off by "
                    f"{error:.1%}: no two maps could be compared",
                    "let what is random follow from the sample: an input with the source normal, or a seed "
                    "made of its values",
                )


class _Recorder:
    """Hears calls, and keeps a bounded number of them: of the step that has most, one by chance gives way."""

    def __init__(self, inputs: Sequence[InputSpec]) -> None:
        self.total = 0
        self._inputs = inputs
        self._by_step: dict[int, list[tuple[str, RecordedCall, Feed]]] = {}
        self._ends: list[dict[str, tuple[float, float]]] = []
        self._count = self._bytes = 0

    def recording(self, call: Call, places: Sequence[int], clips: Sequence[str] | None) -> Call:
        """The same call, which is heard, for one play of the samples at `places`."""
        steps = count()

        def heard(feed: Feed) -> Feed:
            step = next(steps)
            sample = places[min(step, len(places) - 1)]
            cluster = str(sample) if clips is None else clips[sample]
            self._add(RecordedCall(sample, step, cluster), without_batch(feed, self._inputs))
            return call(feed)

        return heard

    def _add(self, call: RecordedCall, feed: Feed) -> None:
        self.total += 1
        self._widen(call.step, feed)
        feed = {name: np.array(value) for name, value in feed.items()}
        chance = hashlib.sha256(f"{call.step}/{call.sample}".encode()).hexdigest()
        self._by_step.setdefault(call.step, []).append((chance, call, feed))
        self._count, self._bytes = self._count + 1, self._bytes + _size_bytes(feed)
        while self._count > MOST_CALLS or (self._bytes > MOST_BYTES and self._count > 1):
            fullest = max(self._by_step.values(), key=len)
            dropped = fullest.pop(max(range(len(fullest)), key=lambda place: fullest[place][0]))
            self._count, self._bytes = self._count - 1, self._bytes - _size_bytes(dropped[2])

    def _widen(self, step: int, feed: Feed) -> None:
        if step == len(self._ends):
            self._ends.append({})
        ends = self._ends[step]
        for name, value in feed.items():
            if value.dtype.kind == "f" and value.size:
                low, high = ends.get(name, (np.inf, -np.inf))
                ends[name] = min(low, float(value.min())), max(high, float(value.max()))

    def kept(self) -> tuple[tuple[RecordedCall, ...], tuple[Feed, ...]]:
        """The calls that are kept, by step and sample."""
        rows = sorted(
            (row for rows in self._by_step.values() for row in rows), key=lambda row: _order(row[1])
        )
        return tuple(row[1] for row in rows), tuple(row[2] for row in rows)

    def steps(self) -> tuple[Extremes, ...]:
        """The ends of the inputs, step by step."""
        return tuple(Extremes(ends) for ends in self._ends)


def _order(call: RecordedCall) -> tuple[int, int]:
    return call.step, call.sample


def _size_bytes(feed: Feed) -> int:
    return sum(value.nbytes for value in feed.values())


def keep_calls(facts_path: Path, arrays_path: Path, calls: RecordedCalls) -> RecordedCalls:
    """Write calls to a run folder. Raises `RunFolderError` if they cannot be written."""
    inputs = list(calls.arrays[0])
    arrays: dict[str, Any] = {
        f"{number}/{place}": feed[name]
        for number, feed in enumerate(calls.arrays)
        for place, name in enumerate(inputs)
    }
    write_atomically(arrays_path, lambda file: np.savez(file, inputs=np.array(inputs), **arrays))
    keep_record(facts_path, calls.facts)
    return RecordedCalls(calls.facts, arrays_path)


def kept_calls(facts_path: Path, arrays_path: Path, digest: str | None = None) -> RecordedCalls | None:
    """The calls in a run folder; `None` where there are none, or of another set or loop."""
    facts = kept_record(CallFacts, facts_path)
    if facts is None or not arrays_path.exists() or digest not in (None, facts.digest):
        return None
    return RecordedCalls(facts, arrays_path)


def _feeds_from_arrays(arrays: Mapping[str, Array], facts: CallFacts) -> tuple[Feed, ...]:
    inputs = [str(name) for name in arrays["inputs"]]
    return tuple(
        {name: arrays[f"{number}/{place}"] for place, name in enumerate(inputs)}
        for number in range(len(facts.calls))
    )

"""Measuring maps: engines built, weighed, timed in turn and profiled; a stop keeps what is known."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, Sequence

from qsens.device.audit import LayerAudit, audit_layers
from qsens.device.bundle_files import Bundle
from qsens.device.errors import DeviceError, reason_of
from qsens.device.latency import MapLatency, interleaved_rounds, latencies_of, layer_rows, mismatched_layers
from qsens.device.open_engine import open_engine
from qsens.device.power import EnergyMeter, added_memory_bytes, energy_of_run_mj, find_meter, gpu_memory_bytes

LOCK = Path(tempfile.gettempdir()) / "qsens-bench.lock"
# A median over fewer rounds says too little to be kept after Ctrl-C.
FEWEST_ROUNDS = 3
# Engines that are held at once; the first map is measured with every group of them.
LARGEST_GROUP = 16
PROFILE_REPEATS = 10
ENERGY_SECONDS = 1.0
Feeds = Mapping[str, Any]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class BenchSettings:
    """Settings of a measurement. `profiles_layers` times single layers too, where the runtime can."""

    batches: tuple[int, ...] = (1,)
    repeats: int = 50
    warm_up: int = 5
    profiles_layers: bool = False


@dataclass(frozen=True, eq=False)
class BuiltEngine:
    """An engine ready to be timed. `step_times_ms` gives milliseconds by engine layer, or nothing."""

    run: Callable[[Feeds], object]
    close: Callable[[], None]
    audit: Callable[[], Sequence[LayerAudit]]
    step_times_ms: Callable[[Feeds, int], Mapping[str, float]]
    flavour: str
    runtime: str
    version: str
    size_bytes: int


@dataclass(frozen=True, eq=False)
class Subject:
    """A map to measure: its label for people, the map in its canonical form, and what builds its engine.

    `precision_map` are the map's plain values and `map_digest` is its digest. `build`, and the engine's
    `run`, raise `DeviceError` for what cannot be built or run.
    """

    label: str
    precision_map: Mapping[str, Any]
    map_digest: str
    build: Callable[[], BuiltEngine]


@dataclass(frozen=True, eq=False)
class BenchResult:
    """The latencies measured; `skipped` gives reasons by label. `is_complete` is false after Ctrl-C."""

    measured: tuple[MapLatency, ...]
    skipped: Mapping[str, str]
    runtime: Mapping[str, str]
    is_complete: bool


def bundle_engine(bundle: Bundle) -> BuiltEngine:
    """The engine of a bundle, ready to be timed. Raises `DeviceError` where it cannot be built."""
    engine = open_engine(bundle)
    return BuiltEngine(
        run=engine.run,
        close=engine.close,
        audit=lambda: audit_layers(bundle.asked, engine.executed_layers()),
        step_times_ms=engine.step_times_ms,
        flavour=bundle.flavour,
        runtime=engine.runtime,
        version=engine.version,
        size_bytes=engine.size_bytes,
    )


def _hear_nothing(measured: Sequence[MapLatency], runtime: Mapping[str, str]) -> None:
    """For callers that take the result at the end."""


def bench(
    subjects: Sequence[Subject],
    feeds: Callable[[int], Feeds],
    settings: BenchSettings,
    *,
    on_gpu: bool = False,
    progress: Progress,
    hear: Callable[[Sequence[MapLatency], Mapping[str, str]], None] = _hear_nothing,
) -> BenchResult:
    """Measure every map at every batch size, all of a group in turn; `feeds` gives the inputs of a batch.

    `hear` is told what of each group was measured, and in which runtime, as soon as the group is done.
    The first map, to which others are compared, is built twice: what its first engine makes the runtime load
    is no memory of a map. A map or a batch that cannot be built or run is skipped and says why.

    Raises:
        DeviceError: if no map could be measured at all; and what `feeds` raises.
    """
    for batch in settings.batches:
        feeds(batch)
    work = _Bench(settings, feeds, progress, hear, on_gpu)
    is_complete = work.run(subjects)
    if is_complete and not work.measured:
        label, reason = next(iter(work.skipped.items()))
        raise DeviceError(f"no map could be measured; {label}: {reason}", "qsens doctor says what runs here")
    return BenchResult(tuple(work.measured), work.skipped, work.runtime, is_complete)


@contextmanager
def alone(say: Callable[[str], None], path: Path = LOCK) -> Iterator[None]:
    """Wait until no other bench of this machine runs, and keep others waiting; `say` hears of the wait.

    Raises:
        DeviceError: if the lock belongs to another user.
    """
    try:
        file = path.open("a")
    except OSError as error:
        raise DeviceError(
            f"cannot lock {path}: {reason_of(error)}", "remove the file if no bench is running"
        ) from error
    with file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except OSError:
            say("another bench is measuring on this machine: waiting for its end")
            flock(file, LOCK_EX)
        yield


@dataclass(eq=False)
class _Held:
    """A built engine with the memory that it took."""

    engine: BuiltEngine
    built_bytes: int | None
    run_bytes: dict[int, int | None] = field(default_factory=dict)

    def memory_bytes(self, batch: int) -> int | None:
        """Memory that building and the first run of that batch added."""
        first_run = self.run_bytes.get(batch)
        return None if self.built_bytes is None or first_run is None else self.built_bytes + first_run


Holding = Dict[Subject, _Held]


@dataclass(eq=False)
class _Bench:
    """One bench in progress: what is known so far survives a Ctrl-C."""

    settings: BenchSettings
    feeds: Callable[[int], Feeds]
    progress: Progress
    hear: Callable[[Sequence[MapLatency], Mapping[str, str]], None]
    on_gpu: bool
    steps: int = 0
    done: int = 0
    measured: list[MapLatency] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    runtime: dict[str, str] = field(default_factory=dict)
    meter: EnergyMeter | None = None

    def run(self, subjects: Sequence[Subject]) -> bool:
        """Measure all; false if the user stopped it."""
        groups = _groups(subjects)
        self.steps = sum(len(group) for group in groups) * (1 + len(self.settings.batches))
        try:
            self._load_runtime(subjects[0])
            for place, group in enumerate(groups):
                self._measure_group(group, skips_first=place > 0)
        except KeyboardInterrupt:
            return False
        return True

    def _load_runtime(self, subject: Subject) -> None:
        self.meter = find_meter(on_gpu=self.on_gpu)
        if self.on_gpu:
            return  # a build takes minutes there, and the driver's own share is told apart without it
        try:
            engine = subject.build()
            engine.run(self.feeds(self.settings.batches[0]))
            engine.close()
        except DeviceError:
            return  # said where it is measured

    def _measure_group(self, group: Sequence[Subject], *, skips_first: bool) -> None:
        held: Holding = {}
        before = len(self.measured)
        try:
            for subject in group:
                self._step(f"building {subject.label}")
                self._hold(subject, held)
            for batch in self.settings.batches:
                self._measure_batch(batch, held, not_kept=group[0] if skips_first else None)
        finally:
            for one in held.values():
                one.engine.close()
            self.hear(self.measured[before:], self.runtime)

    def _hold(self, subject: Subject, held: Holding) -> None:
        built: list[BuiltEngine] = []
        try:
            grown = self._added_bytes(lambda: built.append(subject.build()))
        except DeviceError as error:
            self.skipped[subject.label] = error.message
            return
        self.runtime = self.runtime or {"name": built[0].runtime, "version": built[0].version}
        held[subject] = _Held(built[0], grown)

    def _measure_batch(self, batch: int, held: Holding, *, not_kept: Subject | None) -> None:
        feeds, settings = self.feeds(batch), self.settings
        ready = {subject: one for subject, one in held.items() if self._runs(subject, one, batch, feeds)}
        runs = {subject.label: _runner(one.engine, feeds) for subject, one in ready.items()}
        rounds: list[dict[str, float]] = []
        try:
            for times in interleaved_rounds(runs, warm_up=settings.warm_up, repeats=settings.repeats):
                rounds.append(times)
                label = f"batch {batch}: round {len(rounds)} of {settings.repeats}"
                self.progress(self.done, self.steps, label)
        finally:
            if len(rounds) >= FEWEST_ROUNDS:
                kept = {subject: one for subject, one in ready.items() if subject is not not_kept}
                self._keep(batch, feeds, kept, rounds)

    def _runs(self, subject: Subject, one: _Held, batch: int, feeds: Feeds) -> bool:
        """Run once, which may compile for the shapes, and see how much memory that takes."""
        try:
            one.run_bytes[batch] = self._added_bytes(lambda: one.engine.run(feeds))
        except DeviceError as error:
            self.skipped[f"{subject.label}, batch {batch}"] = error.message
            return False
        return True

    def _keep(self, batch: int, feeds: Feeds, held: Holding, rounds: Sequence[Mapping[str, float]]) -> None:
        latencies = latencies_of(rounds)
        for subject, one in held.items():
            self._step(f"batch {batch}: {subject.label}")
            audit = one.engine.audit()
            times = one.engine.step_times_ms(feeds, PROFILE_REPEATS) if self.settings.profiles_layers else {}
            self.measured.append(
                MapLatency(
                    label=subject.label,
                    precision_map=subject.precision_map,
                    map_digest=subject.map_digest,
                    flavour=one.engine.flavour,
                    batch=batch,
                    latency=latencies[subject.label],
                    size_bytes=one.engine.size_bytes,
                    peak_memory_bytes=one.memory_bytes(batch),
                    energy_mj=self._energy_mj(one.engine, feeds),
                    mismatches=mismatched_layers(audit),
                    layers=layer_rows(audit, times),
                )
            )

    def _energy_mj(self, engine: BuiltEngine, feeds: Feeds) -> float | None:
        if self.meter is None:
            return None
        return energy_of_run_mj(_runner(engine, feeds), self.meter, seconds=ENERGY_SECONDS)

    def _added_bytes(self, work: Callable[[], object]) -> int | None:
        """Memory that some work adds: to the process, or to what the process holds of the GPU."""
        if not self.on_gpu:
            return added_memory_bytes(work)
        before = gpu_memory_bytes()
        work()
        after = gpu_memory_bytes()
        return None if before is None or after is None else max(0, after - before)

    def _step(self, label: str) -> None:
        self.progress(self.done, self.steps, label)
        self.done += 1


def _groups(subjects: Sequence[Subject]) -> list[list[Subject]]:
    """The maps in groups that are held at once, each led by the first map."""
    first, rest = subjects[0], subjects[1:]
    step = LARGEST_GROUP - 1
    return [[first, *rest[start : start + step]] for start in range(0, max(len(rest), 1), step)]


def _runner(engine: BuiltEngine, feeds: Feeds) -> Callable[[], object]:
    return lambda: engine.run(feeds)

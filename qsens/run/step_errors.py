"""The damage along a loop: how far maps are from FP32 at each call, or at each frame of a clip."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from qsens.calibration.plays import Call, Feed, played, spans, with_batch
from qsens.calibration.splits import spread_places
from qsens.core.files import keep_record, kept_record
from qsens.core.interfaces import Engine, Loop
from qsens.core.maps import anchor_trial, built_map, map_title
from qsens.core.plugins import with_defaults
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Study, Trial
from qsens.run.calibrated_graph import CalibratedGraph
from qsens.run.open import OpenedSweep
from qsens.scoring.pictures import picture_outputs

# Plays that show how damage grows; each is played by every map once more.
PLAYED = 8
PLAYED_CLIPS = 3
Array = np.ndarray[Any, np.dtype[Any]]
# Arrays by name at each place of a play.
Trace = Sequence[Mapping[str, Array]]


@dataclass(frozen=True)
class MapErrors:
    """The relative error of one map at each place, against FP32 playing by itself."""

    title: str
    trial: int
    errors: tuple[float, ...]


@dataclass(frozen=True)
class StepErrors:
    """Errors of maps along a loop, on `samples` samples; `key` says of which set, loop and graphs.

    The places are frames where `are_frames`; else calls, of which each has the error of what it is fed, and
    the picture at the end. The error is the root mean square of the difference over that of FP32's values.
    """

    key: str
    samples: int
    are_frames: bool
    maps: tuple[MapErrors, ...]


def write_step_errors(
    job: OpenedSweep, calibrated: CalibratedGraph, study: Study, chosen: Trial | None, path: Path
) -> StepErrors | None:
    """The errors of INT8 everywhere and of the chosen map, read from `path` if it has them, else measured.

    `None` where neither is there.

    Raises:
        BuildError, ScoreError: as when they were scored.
        RunFolderError: if the file cannot be written.
    """
    wished = [anchor_trial(study, Precision.INT8), chosen]
    trials = {trial.number: trial for trial in wished if trial is not None and trial.scores}
    if not trials:
        return None
    graphs = [str(trial.graph) for trial in trials.values()]
    key = "/".join((job.contents()["calibration"], job.evaluation.digest, *graphs))
    kept = read_step_errors(path)
    if kept is not None and kept.key == key:
        return kept
    found = _measured(job, calibrated, study, list(trials.values()), key)
    keep_record(path, found)
    return found


def read_step_errors(path: Path) -> StepErrors | None:
    """The contents of a file; `None` where there is none, as in runs without a loop, or it is damaged."""
    return kept_record(StepErrors, path)


def _measured(
    job: OpenedSweep, calibrated: CalibratedGraph, study: Study, trials: Sequence[Trial], key: str
) -> StepErrors:
    loop, samples = job.loop, job.evaluation
    groups = spans(samples, 1, loop)
    few = PLAYED_CLIPS if loop.plays_clips else PLAYED
    chosen = [groups[place] for place in spread_places(len(groups), few)]
    pictures = picture_outputs(job.graph.example_outputs, job.spec.output)
    sums: dict[int, _Sums] = {trial.number: _Sums() for trial in trials}
    with ExitStack() as stack:
        fp32 = _engine(job, calibrated, PrecisionMap(Precision.FP32), stack)
        engines = {trial.number: _engine(job, calibrated, built_map(trial), stack) for trial in trials}
        for places in chosen:
            feeds = [with_batch(samples.sample(place), job.graph.inputs) for place in places]
            wanted = _trace(loop, fp32.run, feeds, pictures)
            for number, engine in engines.items():
                sums[number].add(_trace(loop, engine.run, feeds, pictures), wanted)
    maps = tuple(
        MapErrors(map_title(trial.requested, study.layers), trial.number, sums[trial.number].errors())
        for trial in trials
    )
    return StepErrors(key, sum(map(len, chosen)), loop.plays_clips, maps)


def _engine(
    job: OpenedSweep, calibrated: CalibratedGraph, precision_map: PrecisionMap, stack: ExitStack
) -> Engine:
    engine: Engine = with_defaults(
        Engine, job.backend.build(calibrated.lower(precision_map, job.backend.flavour))
    )
    return stack.enter_context(engine)


def _trace(loop: Loop, call: Call, feeds: Sequence[Feed], pictures: Sequence[str]) -> Trace:
    """Pictures frame by frame; else what each call is fed, and the picture at the end."""
    fed: list[Mapping[str, Array]] = []

    def heard(feed: Feed) -> Feed:
        fed.append({name: np.array(value) for name, value in feed.items() if value.dtype.kind == "f"})
        return call(feed)

    made = [{name: outputs[name] for name in pictures} for outputs in played(loop, heard, feeds)]
    return made if loop.plays_clips else [*fed, made[-1]]


class _Sums:
    """Squares of differences and of FP32's values, by place and name."""

    def __init__(self) -> None:
        self._by_place: list[dict[str, tuple[float, float]]] = []

    def add(self, found: Trace, wanted: Trace) -> None:
        """Take one play; a place that one of them has not counts as far off as FP32's values are large."""
        nothing: Mapping[str, Array] = {}
        for place, (values, references) in enumerate(zip_longest(found, wanted, fillvalue=nothing)):
            if place == len(self._by_place):
                self._by_place.append({})
            for name, reference in references.items():
                value = np.asarray(values.get(name, 0.0), np.float64)
                error = float(np.square(value - reference).sum())
                before = self._by_place[place].get(name, (0.0, 0.0))
                size = float(np.square(reference, dtype=np.float64).sum())
                self._by_place[place][name] = before[0] + error, before[1] + size

    def errors(self) -> tuple[float, ...]:
        """The largest relative error among the values of each place."""
        return tuple(
            max((np.sqrt(error / size) if size else 0.0 for error, size in sums.values()), default=0.0)
            for sums in self._by_place
        )

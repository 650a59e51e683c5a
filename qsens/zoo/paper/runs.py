"""The sweeps behind the tables: run or resumed through the public API, and read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qsens.api import score_maps
from qsens.calibration.sets import open_sweep_sets
from qsens.core.errors import LoadError, QsensError
from qsens.core.interfaces import InputSpec, Progress, SampleSet
from qsens.core.layer import map_of
from qsens.core.maps import anchor_trial
from qsens.core.precision import Precision
from qsens.core.spec import read_spec, spec_from_values
from qsens.core.trial import Study, Trial
from qsens.report.write import make_report
from qsens.run.folder import spec_for_folder
from qsens.run.journal import read_journal
from qsens.run.open import open_sweep
from qsens.run.opening_notes import sample_warnings
from qsens.run.paths import RunPaths
from qsens.zoo.clips.clip_set import FACE_SHAPE, MEL_SHAPE
from qsens.zoo.metrics.lip_sync import spoken_runs
from qsens.zoo.metrics.mouth import OPEN, correlate, true_openings
from qsens.zoo.metrics.mouth_reader import shipped_reader
from qsens.zoo.wav2lip.architecture import Architecture
from qsens.zoo.wav2lip.variants import VARIANTS, fp16_layers, preset_named

INPUTS = (
    InputSpec("mel", MEL_SHAPE, "float32", is_batched=True),
    InputSpec("face", FACE_SHAPE, "float32", is_batched=True),
)
_WHERE = "command line"
LIP_SYNC_METRICS = ("lse-d", "lse-c")
STUDENT_MAPS = {"strategy": "boundary"}
# In definition order FE0 and FE1 come first: both readings of the teacher's mixed precision are two ends.
TEACHER_MAPS = {
    "strategy": "ends",
    "strategy_options": {"by": "block", "first": 2, "last": 3},
    "layer_order": "definition",
}
# No ends to keep: FP32, FP16 and INT8 everywhere are all that is left.
UNIFORM_MAPS = {"strategy": "ends", "strategy_options": {"by": "block", "first": 0, "last": 0}}


@dataclass(frozen=True, eq=False)
class SweptRun:
    """A finished sweep.

    `lip_sync_note` says why LSE-D and LSE-C were not measured, `None` if they were. `mouth_ceiling` is what
    mouth-sync would be on the true frames, `None` where the true mouth is not known. `warnings` are about
    samples that are too few.
    """

    folder: Path
    study: Study
    evaluation: SampleSet
    architecture: Architecture
    generator: str
    lip_sync_note: str | None
    mouth_ceiling: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def variant(self) -> str | None:
        """The name of its architecture in the family, `None` for another width."""
        return next((name for name, known in VARIANTS.items() if known == self.architecture), None)

    def preset_trial(self, preset: str) -> Trial | None:
        """The scored map that keeps the preset's blocks in FP16 and runs all others in INT8, or `None`."""
        kept = set(fp16_layers(self.architecture, preset_named(preset)))
        layers = self.study.layers
        wished = {layer.name: Precision.FP16 if layer.name in kept else Precision.INT8 for layer in layers}
        by_place = sorted(layers, key=lambda layer: layer.index)
        wanted = map_of(by_place, wished)
        return next((trial for trial in self.study.scored() if trial.requested == wanted), None)

    def uniform_trial(self, precision: Precision) -> Trial | None:
        """The scored map of one precision everywhere, or `None`."""
        return anchor_trial(self.study, precision)


@dataclass(frozen=True)
class RunPlan:
    """A sweep to run: the spec's values, the folder, and whether its checkpoint may run code."""

    values: Mapping[str, Any]
    folder: Path
    trust_checkpoint: bool = False


def run_plan(plan: RunPlan, *, progress: Progress, hear: Callable[[str], None]) -> SweptRun:
    """Run the sweep or take it up where it stopped, and write its own report.

    LSE-D and LSE-C join the metrics where SyncNet's weights and long enough runs of frames are at hand, and
    mouth-sync leaves them where the true mouth is not known, unless the values name the metrics to take
    (`metrics_are_chosen`).

    Raises:
        QsensError: as `open_sweep` and `score_maps`.
        StoppedError: after Ctrl-C; the same command goes on.
    """
    values = dict(plan.values)
    are_chosen = bool(values.pop("metrics_are_chosen", False))
    _, evaluation = open_sweep_sets(spec_from_values(values, _WHERE), INPUTS)
    note = _why_no_lip_sync(evaluation)
    if not are_chosen:
        values["metrics"] = list(wanted_metrics(values["metrics"], plan.folder, evaluation, note))
    spec = spec_for_folder(spec_from_values(values, _WHERE), plan.folder)
    opened = open_sweep(spec, trust_checkpoint=plan.trust_checkpoint)
    before = _trials_so_far(plan.folder)
    study = score_maps(opened, plan.folder, progress=progress, hear=hear)
    if len(study.trials) != before or not RunPaths(plan.folder).report_path.exists():
        make_report(plan.folder)
    was_measured = "lse-d" in opened.spec.metrics
    return SweptRun(
        folder=plan.folder,
        study=study,
        evaluation=opened.evaluation,
        architecture=getattr(opened.generator, "architecture"),  # noqa: B009
        generator=opened.generator.name,
        lip_sync_note=None if was_measured else note or "they are not among the metrics chosen",
        mouth_ceiling=_mouth_ceiling(opened.evaluation) if "mouth-sync" in study.metrics else None,
        warnings=tuple(sample_warnings(opened)),
    )


def wanted_metrics(
    names: Sequence[str], folder: Path, evaluation: SampleSet, lip_sync_note: str | None
) -> tuple[str, ...]:
    """A run goes on with the metrics that it began with, whatever has come to hand since."""
    if RunPaths(folder).spec_path.exists():
        return read_spec(RunPaths(folder).spec_path).metrics
    knows_mouths = "mouth" in evaluation.annotation(0)
    possible = [name for name in names if name != "mouth-sync" or knows_mouths]
    return (*possible, *(LIP_SYNC_METRICS if lip_sync_note is None else ()))


def _trials_so_far(folder: Path) -> int:
    path = RunPaths(folder).journal_path
    return len(read_journal(path).trials) if path.exists() else 0


def _why_no_lip_sync(evaluation: SampleSet) -> str | None:
    from qsens.zoo.metrics.sync_meter import WEIGHTS_FILE, locate_weights  # loads torch

    try:
        locate_weights()
    except LoadError:
        return f"{WEIGHTS_FILE}, the weights of the evaluation SyncNet, is not at hand"
    try:
        spoken_runs(evaluation, "LSE")
    except QsensError as error:
        return error.message
    return None


def _mouth_ceiling(evaluation: SampleSet) -> float:
    """Correlation of the opening read off the true frames with the true opening."""
    openings = true_openings(evaluation, "mouth-sync")
    frames = (evaluation.annotation(index)["target"] for index in range(len(evaluation)))
    read = np.concatenate([shipped_reader().read(frame[None])[:, OPEN] for frame in frames])
    return float(correlate(read, openings).value)

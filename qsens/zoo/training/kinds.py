"""From a spec to the training it asks for; distiller `omgd`, as Kim et al. 2023 use it on Wav2Lip."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qsens.core.interfaces import Progress
from qsens.zoo.training.batches import open_training_clips
from qsens.zoo.training.expert import ExpertTraining
from qsens.zoo.training.module import TrainingModule
from qsens.zoo.training.running import TrainingResult, run_training
from qsens.zoo.training.spec import ExpertSpec, StudentSpec, TalkerSpec, TrainingSpec, WindowSpec
from qsens.zoo.training.spec_reading import spec_from_values
from qsens.zoo.training.student import StudentTraining
from qsens.zoo.training.talker import TalkerTraining
from qsens.zoo.training.windowed import TeacherTraining


def train(spec: TrainingSpec, progress: Progress) -> TrainingResult:
    """Train what the spec describes; see `run_training`.

    Raises:
        DataError: if the clips cannot be used.
        LoadError: if weights that the spec names do not fit.
    """
    return run_training(module_of(spec), progress)


def module_of(spec: TrainingSpec) -> TrainingModule:
    """The training that the spec asks for, its clips in memory.

    Raises:
        DataError: if the clips cannot be used.
        LoadError: if weights that the spec names do not fit.
    """
    clips = open_training_clips(spec.data)
    validation = open_training_clips([spec.validation]) if spec.validation else None
    if isinstance(spec, TalkerSpec):
        return TalkerTraining(spec, clips, validation)
    if isinstance(spec, ExpertSpec):
        return ExpertTraining(spec, clips, validation)
    if isinstance(spec, StudentSpec) and spec.kd:
        return StudentTraining(spec, clips, validation)
    assert isinstance(spec, WindowSpec)
    return TeacherTraining(spec, clips, validation)


def distill(spec: Mapping[str, Any], folder: Path, progress: Progress) -> Path:
    """Train the student that `spec` describes in `folder`, or go on; its weights file is returned.

    `spec` holds the keys of a spec file with `kind = "student"`, paths absolute or relative to the working
    folder; see `qsens.zoo.training.spec.StudentSpec`.

    Raises:
        SpecError: naming the key that is unknown, missing or wrong.
        LoadError: for weights that do not fit.
        RunFolderError: if the folder is in use or holds a run of another spec.
        KeyboardInterrupt: after saving, if the run was interrupted.
    """
    values = {"kind": "student", **spec, "out": folder.as_posix()}
    train(spec_from_values(values, "the distillation spec"), progress)
    return folder / "generator.safetensors"

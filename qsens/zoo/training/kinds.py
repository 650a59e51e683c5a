"""From a spec to the training it asks for."""

from qsens.interfaces import Progress
from qsens.zoo.training.batches import open_training_clips
from qsens.zoo.training.module import TrainingModule
from qsens.zoo.training.running import TrainingResult, run_training
from qsens.zoo.training.spec import TalkerSpec, TrainingSpec
from qsens.zoo.training.talker import TalkerTraining


def train(spec: TrainingSpec, progress: Progress) -> TrainingResult:
    """Train what the spec describes; see `run_training`.

    Raises:
        DataError: if the clips cannot be used.
    """
    return run_training(module_of(spec), progress)


def module_of(spec: TrainingSpec) -> TrainingModule:
    """The training that the spec asks for, its clips in memory."""
    clips = open_training_clips(spec.data)
    validation = open_training_clips([spec.validation]) if spec.validation else None
    assert isinstance(spec, TalkerSpec)
    return TalkerTraining(spec, clips, validation)

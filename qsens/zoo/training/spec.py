"""Specs of trainings: one dataclass for each kind of network, every default written once."""

# ruff: noqa: RUF009 - the calls return dataclass fields
from dataclasses import dataclass
from pathlib import Path

from qsens.zoo.training.spec_keys import (
    choice,
    flag,
    location,
    locations,
    number,
    optional_number,
    pair,
    whole,
    word,
)

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
WINDOWS = ("inference", "training")
SCHEDULES = ("cosine", "constant")
SYNC_SCHEDULES = ("start", "middle", "threshold", "none")
TEACHER_MODES = ("offline", "online")
REDUCTIONS = ("sum", "mean")
EXTRACTORS = ("auto", "vgg16", "lite0", "random")
# Keys that name weights; what counts is what the files hold.
WEIGHT_FILES = ("start", "expert", "teacher", "vgg16_weights")
# Keys that change neither the data, the network, nor what is done with them; digests stand for folders.
NO_EFFECT_ON_WEIGHTS = frozenset(
    {
        "data",
        "validation",
        "out",
        "threads",
        "max_minutes",
        "log_every",
        "checkpoint_every",
        "validation_samples",
        *WEIGHT_FILES,
    }
)


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """The options that every kind of training shares."""

    kind: str
    data: tuple[Path, ...] = locations("folders of clips to train on")
    validation: Path | None = location("a folder of clips by other speakers, for the metrics")
    out: Path | None = location("the folder that takes checkpoints, metrics and the result")
    start: Path | None = location(
        "weights to begin with, in a format that the network opens; else random ones"
    )
    seed: int = whole("number that all randomness comes from", 0, minimum=0)
    steps: int = whole("optimizer steps of the whole run", 10_000, minimum=1)
    max_minutes: float | None = optional_number("minutes after which a run stops early", exclusiveMinimum=0)
    batch_size: int = whole("samples in one step on one device", 32, minimum=2)
    learning_rate: float = number("highest learning rate", 1e-4, exclusiveMinimum=0)
    final_learning_rate: float = number("learning rate of the last step", 0.0, minimum=0)
    warmup_steps: int = whole("steps in which the learning rate rises from zero", 100, minimum=0)
    schedule: str = choice("how the learning rate falls after the warm-up", "cosine", SCHEDULES)
    weight_decay: float = number("decay of AdamW", 0.0, minimum=0)
    precision: str = choice("arithmetic of the training steps", "32-true", PRECISIONS)
    accelerator: str = choice("what the steps run on", "auto", ("auto", "cpu", "gpu"))
    devices: int = whole("how many of them", 1, minimum=1)
    compile: bool = flag("compile the network: slower to start, faster afterwards", default=False)
    threads: int = whole("CPU threads; 0 lets torch choose", 0, minimum=0)
    log_every: int = whole("steps between lines of metrics.csv", 100, minimum=1)
    validate_every: int = whole("steps between validations", 2_000, minimum=1)
    validation_samples: int = whole("frames, windows or pairs in a validation", 400, minimum=2)
    checkpoint_every: int = whole("steps between checkpoints", 500, minimum=1)
    window: str = choice("which mel window goes with a frame", "inference", WINDOWS)


@dataclass(frozen=True, kw_only=True)
class GeneratorSpec(TrainingSpec):
    """The options that every training of a generator shares."""

    width: float = number(
        "channels of the generator, as a share of the published one", 1.0, exclusiveMinimum=0
    )
    residual: bool = flag("keep the residual layers", default=True)
    fp16: bool = flag("store the weights in FP16", default=False)


@dataclass(frozen=True, kw_only=True)
class TalkerSpec(GeneratorSpec):
    """Direct training of a compact generator on single frames, without a teacher."""

    mouth_weight: float = number("weight of the mouth box in the pixel loss", 6.0, minimum=0)
    lower_weight: float = number("weight of the rest of the lower half", 2.5, minimum=0)
    edge_weight: float = number("weight of the loss on picture gradients", 1.0, minimum=0)
    pooled_weight: float = number("weight of the loss on pictures shrunk 4 and 8 times", 0.5, minimum=0)
    audio_weight: float = number("weight of reading the mouth state off the sound alone", 0.3, minimum=0)
    colour_gain: float = number("largest change of a colour channel's gain", 0.15, minimum=0, maximum=0.9)
    mel_noise: float = number("standard deviation of noise on the mel window", 0.2, minimum=0)
    mel_gain: float = number("standard deviation of an offset of the whole mel window", 0.4, minimum=0)
    mirror: bool = flag("mirror half of the samples", default=True)


@dataclass(frozen=True, kw_only=True)
class ExpertSpec(TrainingSpec):
    """Training of the lip-sync expert: do five frames and 0.2 s of sound belong together?"""

    batch_size: int = whole("windows in one step on one device", 64, minimum=2)
    validation_samples: int = whole("pairs in a validation", 256, minimum=2)
    schedule: str = choice("how the learning rate falls after the warm-up", "constant", SCHEDULES)


@dataclass(frozen=True, kw_only=True)
class WindowSpec(GeneratorSpec):
    """The options of trainings on windows of five frames: Eq. 1 with its sync schedule."""

    expert: Path | None = location("weights of the lip-sync expert")
    batch_size: int = whole("windows of five frames in one step on one device", 16, minimum=2)
    validation_samples: int = whole(
        "frames in a validation; a tenth as many windows for sync", 400, minimum=2
    )
    schedule: str = choice("how the learning rate falls after the warm-up", "constant", SCHEDULES)
    warmup_steps: int = whole("steps in which the learning rate rises from zero", 0, minimum=0)
    window: str = choice("which mel window goes with a frame", "training", WINDOWS)
    sync: str = choice("when the sync loss begins", "threshold", SYNC_SCHEDULES)
    sync_threshold: float = number("validation sync loss below which `threshold` begins", 0.75, minimum=0)
    sync_middle: float = number("share of the steps after which `middle` begins", 0.5, minimum=0, maximum=1)
    sync_weight: float = number("weight of the sync loss in Eq. 1", 0.03, minimum=0, maximum=1)
    gan_weight: float = number("weight of the adversarial loss in Eq. 1", 0.07, minimum=0, maximum=1)


@dataclass(frozen=True, kw_only=True)
class TeacherSpec(WindowSpec):
    """Training of a generator with Eq. 1: reconstruction, lip sync and a quality discriminator."""


@dataclass(frozen=True, kw_only=True)
class StudentSpec(WindowSpec):
    """Training of a compact generator with Eq. 2 (knowledge distillation), or with Eq. 1 without it."""

    distiller: str = word("the plug-in that distils", "omgd")
    width: float = number(
        "channels of the student, as a share of the published one", 0.25, exclusiveMinimum=0
    )
    residual: bool = flag("keep the student's residual layers", default=False)
    learning_rate: float = number("highest learning rate", 2e-4, exclusiveMinimum=0)
    sync: str = choice("when the sync loss begins", "start", SYNC_SCHEDULES)
    kd: bool = flag("distil from a teacher (Eq. 2); false trains with Eq. 1", default=True)
    teacher: Path | None = location("weights of the teacher; needed unless it is trained alongside")
    teacher_mode: str = choice("whether the teacher is frozen or trained alongside", "offline", TEACHER_MODES)
    teacher_width: float = number("channels of a teacher trained alongside", 1.0, exclusiveMinimum=0)
    teacher_residual: bool = flag("residual layers of a teacher trained alongside", default=True)
    teacher_learning_rate: float = number("rate of a teacher trained alongside", 1e-4, exclusiveMinimum=0)
    channel_weight: float = number("weight of channel distillation", 10.0, minimum=0)
    channel_reduction: str = choice("how the taps are put together", "sum", REDUCTIONS)
    ssim_weight: float = number("weight of 1 - SSIM", 10.0, minimum=0)
    feature_weight: float = number("weight of the feature loss", 10.0, minimum=0)
    style_weight: float = number("weight of the style loss", 1e4, minimum=0)
    variation_weight: float = number("weight of the total variation", 1e-5, minimum=0)
    kd_sync_weight: float = number("weight of the sync loss in Eq. 2", 3.0, minimum=0)
    extractor: str = choice("the network behind feature and style loss", "auto", EXTRACTORS)
    vgg16_weights: Path | None = location("VGG16's weights as torchvision publishes them")
    output_range: tuple[float, float] = pair("values of black and white in the pictures", (0.0, 1.0))

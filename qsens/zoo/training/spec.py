"""What a training run is asked to do: one dataclass for each kind of network, every default written once."""

from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

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


def number(text: str, default: float, **bounds: Any) -> Any:
    """A key whose value is a number within JSON-schema bounds."""
    return _key(text, default, type="number", **bounds)


def whole(text: str, default: int, **bounds: Any) -> Any:
    """A key whose value is a whole number within JSON-schema bounds."""
    return _key(text, default, type="integer", **bounds)


def optional_number(text: str, **bounds: Any) -> Any:
    """A number that may be absent."""
    return _key(text, None, type="number", **bounds)


def flag(text: str, *, default: bool) -> Any:
    """True or false."""
    return _key(text, default, type="boolean")


def choice(text: str, default: str, options: tuple[str, ...]) -> Any:
    """One of a few words; the first listed is not special, `default` is."""
    return _key(f"{text}: {', '.join(options)}", default, enum=list(options))


def word(text: str, default: str) -> Any:
    """A text."""
    return _key(text, default, type="string", minLength=1)


def location(text: str) -> Any:
    """A path that may be absent; relative ones are relative to the spec file."""
    return _key(text, None, is_path=True, type="string", minLength=1)


def pair(text: str, default: tuple[float, float]) -> Any:
    """Two numbers."""
    return _key(text, default, type="array", items={"type": "number"}, minItems=2, maxItems=2)


def locations(text: str) -> Any:
    """Several paths, or none."""
    items = {"type": "string", "minLength": 1}
    return _key(text, (), is_path=True, type="array", items=items)


def schema_of(spec_class: type) -> dict[str, Any]:
    """The JSON schema of a spec file that describes one `spec_class`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": spec_class.__doc__,
        "type": "object",
        "properties": {entry.name: _schema(entry) for entry in fields(spec_class)},
        "required": [entry.name for entry in fields(spec_class) if entry.default is MISSING],
        "additionalProperties": False,
    }


def path_keys(spec_class: type) -> tuple[str, ...]:
    """Keys whose values are paths."""
    return tuple(entry.name for entry in fields(spec_class) if entry.metadata.get("is_path"))


def _key(text: str, default: Any, *, is_path: bool = False, **schema: Any) -> Any:
    return field(default=default, metadata={"schema": {"description": text, **schema}, "is_path": is_path})


def _schema(entry: Any) -> dict[str, Any]:
    schema: dict[str, Any] = entry.metadata.get("schema", {"type": "string"})
    return schema


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """What every kind of training shares."""

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
    """What every training of a generator shares."""

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
    """What trainings of a generator on windows of five frames share: Eq. 1 with its sync schedule."""

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

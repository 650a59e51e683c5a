"""Contracts of plug-ins: generators, sample sets, backends, metrics, strategies and loops.

Abstract methods and attributes without a value must be there; all else has its default here. A plug-in that
inherits its contract has the defaults. One that does not is given those that it lacks when it is opened, by
`qsens.core.plugins.with_defaults`, so it need not change when a contract grows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from qsens.core.loops import Loop as Loop
from qsens.core.samples import FLOAT_RANGE as FLOAT_RANGE
from qsens.core.samples import InputRule as InputRule
from qsens.core.samples import InputSpec as InputSpec
from qsens.core.samples import OutputRule as OutputRule
from qsens.core.samples import SampleSet as SampleSet

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import onnx

    from qsens.core.layer import Layer
    from qsens.core.precision import PrecisionMap
    from qsens.core.start import StartingPoint
    from qsens.core.targets import Target
    from qsens.core.trial import Request, Score, Trial
    from qsens.device.audit import DeviceEngine, LayerAudit

    Array = np.ndarray[Any, np.dtype[Any]]
    Sample = Mapping[str, Array]


@runtime_checkable
class Generator(Protocol):
    """A trained generator, opened; what `qsens.generators` functions return.

    `digest` is the sha256 of the weights as loaded. `layer_blocks` is the block by layer name, where the
    generator knows better than the names say; `definition_order` are layer names in the order in which its
    code or its paper lists them; `output` is used where the spec states none; `notice` is a sentence about
    its licence, for people; `weights_read` one on which weights of its file were taken.
    """

    name: str
    digest: str
    layer_blocks: Mapping[str, str] = MappingProxyType({})
    definition_order: Sequence[str] = ()
    output: OutputRule | None = None
    notice: str | None = None
    weights_read: str | None = None

    @abstractmethod
    def export(self) -> onnx.ModelProto:
        """The FP32 ONNX graph, batch normalisation not yet folded.

        Raises:
            LoadError: if the module cannot be exported.
        """
        ...


class Engine(Protocol):
    """A built engine. `applied` is read back from what the runtime holds, never echoed."""

    applied: PrecisionMap
    size_bytes: int

    @property
    def audit(self) -> Sequence[LayerAudit]:
        """One record for each layer, where the runtime tells what it runs in."""
        return ()

    @property
    def device_engine(self) -> DeviceEngine | None:
        """The engine of the device that runs it, for latency and its profile."""
        return None

    @abstractmethod
    def run(self, batch: Mapping[str, Array]) -> Mapping[str, Array]:
        """Outputs by name for inputs with their batch axis (where the input has one)."""
        ...

    @abstractmethod
    def fp16_overflows(self) -> Mapping[str, int]:
        """Values so far that FP16 could not hold, by layer; layers without any are left out."""
        ...

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def __enter__(self) -> Engine: ...

    @abstractmethod
    def __exit__(self, *_: object) -> None: ...


class ReusingBuilder(Protocol):
    """Builds the engines of one run, each with a view to the maps that follow it."""

    def build(self, lowered: Any, coming: Sequence[PrecisionMap]) -> Engine: ...


class Backend(Protocol):
    """Builds engines from lowered graphs (`qsens.engines.lowering.lower.LoweredGraph`).

    `flavour` is the form of the lowered graph that it takes: `exact`, `strong`, `weak` or `u8`. `targets`,
    read from the class, are what bundles are exported for. Its module may offer `problem() -> str | None`:
    why this machine cannot use it.
    """

    name: str
    flavour: str
    targets: Sequence[Target] = ()

    def reusing(self, lower: Callable[[PrecisionMap], Any]) -> ReusingBuilder | None:
        """The builder of engines that share work between the maps of a run, which `lower` lowers.

        `None` where every map is built for itself.
        """
        return None

    @abstractmethod
    def build(self, lowered: Any) -> Engine:
        """Build the engine.

        Raises:
            BuildError: and nothing else, for a graph it cannot build.
        """
        ...


@dataclass(frozen=True)
class Extractor:
    """Identity of a feature extractor; `run` maps uint8 (N, 3, H, W) RGB images to float32 (N, dimension).

    `parts`: the extractors whose features it puts side by side, in order; none for a single one.
    """

    name: str
    dimension: int
    input_size: int
    preprocessing: str
    weights_sha256: str
    run: Any
    parts: tuple[Extractor, ...] = ()

    @property
    def each(self) -> tuple[Extractor, ...]:
        """Its parts, or itself."""
        return self.parts or (self,)

    @property
    def identity(self) -> str:
        """A text that statistics must share to be compared."""
        if self.parts:
            return " + ".join(part.identity for part in self.parts)
        return f"{self.name}/{self.preprocessing}/{self.weights_sha256[:16]}"


@dataclass(frozen=True)
class ScoredBatch:
    """Outputs of one map for consecutive samples.

    `images` and `baseline`: uint8 (N, 3, H, W), 0 to 255, RGB, of this map and of FP32 for the same
    inputs. `features`: float32 (N, D), or `None` if no metric asked for them.
    """

    start: int
    images: Array
    baseline: Array
    features: Array | None


@dataclass(frozen=True)
class ScoringContext:
    """The images and features that every map is scored against, the same for a whole run.

    `baseline_features`: float32 (N, D) of the FP32 outputs, `None` while FP32 itself is being scored
    (then `baseline` is the batch's own images). `reference_features`: float32 (M, D) of real images, or
    `None`. `clusters`: integer labels (N,) of correlated samples, or `None`. `samples`: the evaluation set
    in the order of the images, for metrics that read annotations.
    """

    images: int
    extractor: Extractor | None
    baseline_features: Array | None
    reference_features: Array | None
    reference_digest: str | None
    evaluation_digest: str
    clusters: Array | None
    samples: SampleSet | None = None


@dataclass(frozen=True)
class Measurement:
    """A score and its per-sample contributions.

    `influence`: float64 (N,), the influence of each sample on `score.value` (mean zero; variance / N is
    the squared standard error), or `None`. Differences between any two maps are paired with it.
    """

    score: Score
    influence: Array | None


class Role(StrEnum):
    """The uses of a score when maps are chosen; a budget is on the first of these that was scored."""

    REAL_DISTANCE = "distance to real images"
    FP32_DISTANCE = "distance to the FP32 outputs, which guards what the distance to real images hides"
    DECIBELS = "closeness to the FP32 outputs in dB, infinite for equal pictures"


INTERVAL_METHOD = "influence function (by clip where there are clips), Student's t"


@dataclass(frozen=True)
class MetricFacts:
    """Everything that reports and choices ask of a metric but its scores.

    `short_name` is how running text calls it, empty for its name. `title` says what it is measured against,
    for an axis; `{0}` stands for the short name with the extractor in brackets, `{1}` for these alone.
    `interval_method` is how its 95 % interval is made. A score without a `role` is shown, and a budget is on
    it only where it is named. `is_frechet`: a Fréchet distance, which few images bias upwards. `of_fp32` is
    the score of pictures against themselves, `None` where FP32's has to be measured.
    """

    short_name: str = ""
    title: str = "{0}"
    interval_method: str = INTERVAL_METHOD
    role: Role | None = None
    is_frechet: bool = False
    of_fp32: float | None = None


class Accumulator(Protocol):
    """State of one metric while one map is scored."""

    def update(self, batch: ScoredBatch) -> None: ...

    def compute(self) -> Measurement: ...


class Metric(Protocol):
    """A way to score images.

    `needs_features` and `needs_reference` say what the context must hold, `needs_annotations` which
    annotations every sample must have. `facts` are read from the class, so that a report can be written
    without a metric being made: a class that states its own inherits `Metric`. One that `is_slow` scores most
    maps on the samples of a screen, and all samples of FP32, FP16 and INT8 everywhere, of yardsticks and of
    the map that is chosen.
    """

    name: str
    lower_is_better: bool
    needs_features: bool
    needs_reference: bool
    needs_annotations: Sequence[str] = ()
    is_slow: bool = False
    facts: MetricFacts = MetricFacts()

    @abstractmethod
    def label(self, context: ScoringContext) -> str:
        """The name shown for scores in this context, for example `fid[lite0]`."""
        ...

    @abstractmethod
    def start(self, context: ScoringContext) -> Accumulator: ...


@dataclass(frozen=True)
class Decision:
    """One step of a search in words, and the numbers of the trials it rests on."""

    text: str
    trials: tuple[int, ...]


class Strategy(Protocol):
    """Chooses which maps to try: a pure function of layers and trials, so resuming is replaying.

    `keeps_to_budget`: a budget decides which map a run of it ends with. `members` are the strategies that it
    asks in turn, where it is several.
    """

    name: str
    keeps_to_budget: bool = True
    members: Sequence[Strategy] = ()

    @abstractmethod
    def propose(self, layers: Sequence[Layer], trials: Sequence[Trial]) -> Sequence[Request]:
        """Maps to score next, or to screen, none of them tried before; empty when finished."""
        ...

    def explain_search(self, layers: Sequence[Layer], trials: Sequence[Trial]) -> Sequence[Decision]:
        """The decisions of a search so far, in order, for the report."""
        return ()

    def starting_from(self, start: StartingPoint) -> Strategy:
        """The same strategy, with what another run knew; one that has no use for that is as it was."""
        return self


class Demo(Protocol):
    """A sweep that runs as it is on data that is at hand: what `qsens demo --generator NAME` takes."""

    name: str

    def spec_values(self, folder: Path) -> Mapping[str, Any]:
        """Values of the spec, by key; data that has to be made first goes below `folder`.

        Raises:
            DataError, LoadError: if something that the demo needs is not installed.
        """
        ...

    def notes(self) -> tuple[str, ...]:
        """Sentences that a reader of the numbers must know: origin, licence, what they do not show."""
        ...


Hear = Callable[[str], None]


def unheard(line: str) -> None:
    """A `Hear` for callers that read nothing."""


class Progress(Protocol):
    """Hears how far a run is; the command line draws a bar with it. A label `phase: detail` has its own."""

    def __call__(self, done: int, total: int, label: str) -> None: ...

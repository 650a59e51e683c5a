"""Records of a sweep: a score, a trial (one line of the journal) and the study that reports read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeVar

from qsens.core.layer import Layer
from qsens.core.maps import MapShapes, anchor_maps
from qsens.core.other_work import OtherWork
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.schema import read_record, read_value, shown


@dataclass(frozen=True)
class Score:
    """A number with what makes it comparable.

    `standard_error` is that of `value`; `difference` is `value` minus FP32's value on the same inputs and
    `difference_standard_error` is paired over those inputs (Rippl, Munk & Sturm 2016 for Fréchet
    distances). `against` names extractor, reference and preprocessing: scores with different `against`
    must not be compared. `None` means not measured. `output` is the worst of several outputs that are scored.
    """

    metric: str
    value: float
    images: int
    against: str
    lower_is_better: bool
    standard_error: float | None = None
    difference: float | None = None
    difference_standard_error: float | None = None
    output: str | None = None


@dataclass(frozen=True)
class Yardstick:
    """The scores of FP32's own pictures after a familiar alteration (`jpeg:95`), on the inputs of all maps.

    A metric that cannot score it has none there.
    """

    alteration: str
    scores: tuple[Score, ...]

    def score(self, metric: str) -> Score | None:
        """The score of that name, or `None`."""
        return next((score for score in self.scores if score.metric == metric), None)


def yardstick_of(yardsticks: Iterable[Yardstick], alteration: object) -> Yardstick | None:
    """The yardstick of that alteration, by its name, or `None`."""
    return next((entry for entry in yardsticks if entry.alteration == str(alteration)), None)


class Outcome(StrEnum):
    """The end of a trial: scored on all samples, on those of the screen only, or not at all."""

    SCORED = "scored"
    SCREENED = "screened"
    FAILED = "failed"


@dataclass(frozen=True)
class Screen:
    """A strategy's wish to score a map on a few samples only, to learn whether all of them are worth it.

    Where a run does not screen, the map is scored on all samples instead.
    """

    precision_map: PrecisionMap


Request = PrecisionMap | Screen
AnyRequest = TypeVar("AnyRequest", bound=Request)


@dataclass(frozen=True)
class Trial:
    """One precision map, what the backend really built of it, and what it scored.

    `fp16_overflows` counts values that FP16 could not hold, by layer. `latency_ms` is `None` until a
    device has measured it. `error` is the message of a failed trial. `mismatches` are the layers that the
    engine runs in another precision than its flavour should, by its own audit. A screened trial's `scores`
    are those of the screen's samples; a scored one of a run that screens has them in `screen_scores`.
    `graph` is the digest of what the engine computes: maps that share it are scored once. `evidence` has the
    digest of each file kept beside the scores, by kind; nothing in journals of versions without digests.
    `output_errors` are relative errors of outputs that are not scored against FP32's, on the first samples.
    `yardsticks` are of FP32's trial alone, where the run has scored any.
    """

    number: int
    requested: PrecisionMap
    applied: PrecisionMap | None
    outcome: Outcome
    scores: tuple[Score, ...] = ()
    latency_ms: float | None = None
    size_bytes: int | None = None
    duration_s: float = 0.0
    fp16_overflows: tuple[tuple[str, int], ...] = ()
    error: str | None = None
    mismatches: tuple[str, ...] = ()
    screen_scores: tuple[Score, ...] = ()
    graph: str | None = None
    evidence: tuple[tuple[str, str], ...] = ()
    output_errors: tuple[tuple[str, float], ...] = ()
    yardsticks: tuple[Yardstick, ...] = ()

    def digest_of(self, kind: str) -> str | None:
        """The digest of the file of that kind: `evidence`, `audit`, `samples` or `images`."""
        return dict(self.evidence).get(kind)

    def score(self, metric: str) -> Score | None:
        """The score of that name, or `None`."""
        return next((score for score in self.scores if score.metric == metric), None)

    def to_json(self) -> dict[str, Any]:
        """Plain values for one journal line."""
        # `asdict` of the whole would copy every override of both maps, which takes longer than the disk.
        value = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        for name in ("scores", "screen_scores", "yardsticks"):
            value[name] = tuple(asdict(entry) for entry in value[name])
        value["requested"] = self.requested.to_json()
        value["applied"] = None if self.applied is None else self.applied.to_json()
        value["fp16_overflows"] = dict(self.fp16_overflows)
        value["evidence"] = dict(self.evidence)
        value["output_errors"] = dict(self.output_errors)
        if not self.yardsticks:
            del value["yardsticks"]
        return value

    @classmethod
    def from_json(cls, value: object) -> "Trial":
        """Read what `to_json` wrote.

        Raises:
            ValueError: naming the key that is missing, unknown or wrong.
            SpecError: for what is no precision map.
        """
        if not isinstance(value, Mapping):
            raise ValueError(f"{shown(value)} is no table")
        requested = PrecisionMap.from_json(value.get("requested"))
        applied: PrecisionMap | None = requested
        built = value.get("applied")
        if built != value.get("requested"):
            applied = None if built is None else PrecisionMap.from_json(built)
        trial = read_record(
            cls,
            value,
            requested=requested,
            applied=applied,
            fp16_overflows=tuple(_overflows(value.get("fp16_overflows"))),
            evidence=tuple(_digests(value.get("evidence", {}))),
            output_errors=tuple(_output_errors(value.get("output_errors", {}))),
        )
        yardsticks = (score for yardstick in trial.yardsticks for score in yardstick.scores)
        for score in (*trial.scores, *trial.screen_scores, *yardsticks):
            check_score(score)
        return trial


def check_score(score: Score) -> None:
    """Raise `ValueError` for a score that no run writes."""
    if score.images < 1:
        raise ValueError(f"{score.metric!r} is of {score.images} images")
    for error in (score.standard_error, score.difference_standard_error):
        if error is not None and error < 0:
            raise ValueError(f"a standard error of {score.metric!r} is {error}")


def _overflows(value: object) -> Iterable[tuple[str, int]]:
    counts: Mapping[str, int] = read_value(Mapping[str, int], value, "fp16_overflows")
    return counts.items()


def _digests(value: object) -> Iterable[tuple[str, str]]:
    digests: Mapping[str, str] = read_value(Mapping[str, str], value, "evidence")
    return digests.items()


def _output_errors(value: object) -> Iterable[tuple[str, float]]:
    errors: Mapping[str, float] = read_value(Mapping[str, float], value, "output_errors")
    return errors.items()


@dataclass(frozen=True)
class RepairSummary:
    """The outcome of making INT8 better, as a line for people; `is_taken` where it changed anything."""

    text: str
    is_taken: bool


@dataclass(frozen=True)
class Study:
    """The layers and every trial so far, as reports and selection read them.

    `other_work` is the network's work that is in no layer, as far as the run has written it down; `repair`
    is `None` where none was asked for.
    """

    spec_digest: str
    layers: tuple[Layer, ...]
    trials: tuple[Trial, ...]
    other_work: tuple[OtherWork, ...] = ()
    repair: RepairSummary | None = None

    def scored(self) -> tuple[Trial, ...]:
        """Trials that have scores on all samples."""
        return tuple(trial for trial in self.trials if trial.outcome is Outcome.SCORED)

    @cached_property
    def anchors(self) -> Mapping[Precision, Trial]:
        """The first scored trial of each anchor map, where there is one."""
        first: dict[PrecisionMap, Trial] = {}
        for trial in self.scored():
            first.setdefault(trial.requested, trial)
        wanted = anchor_maps(self.layers)
        return {precision: first[one] for precision, one in wanted.items() if one in first}

    @property
    def yardsticks(self) -> tuple[Yardstick, ...]:
        """The yardsticks of the run, in the order in which they were scored."""
        fp32 = self.anchors.get(Precision.FP32)
        return () if fp32 is None else fp32.yardsticks

    @cached_property
    def shapes(self) -> MapShapes:
        """Shapes and shares of maps over the layers."""
        return MapShapes(self.layers)

    def same_as(self, trial: Trial) -> int | None:
        """The number of the first trial before this one that ran the same graph on the same samples."""
        first = None if trial.graph is None else self._first_of_graph.get((trial.graph, trial.outcome))
        return first if first is not None and first < trial.number else None

    @cached_property
    def _first_of_graph(self) -> Mapping[tuple[str, Outcome], int]:
        found: dict[tuple[str, Outcome], int] = {}
        for trial in self.trials:
            if trial.graph is not None:
                found.setdefault((trial.graph, trial.outcome), trial.number)
        return found

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Metric names in the order in which they first appear."""
        return tuple(dict.fromkeys(score.metric for trial in self.scored() for score in trial.scores))


def requested_map(request: Request) -> PrecisionMap:
    """The map that a request is about."""
    return request.precision_map if isinstance(request, Screen) else request


def untried(requests: Iterable[AnyRequest], trials: Sequence[Trial]) -> list[AnyRequest]:
    """Requests in order, each once, without those that a trial has answered.

    A trial on all samples, or a failed one, answers a screen too; a screened one answers screens alone.
    """
    tried = {trial.requested for trial in trials}
    scored = {trial.requested for trial in trials if trial.outcome is not Outcome.SCREENED}
    return [
        request
        for request in dict.fromkeys(requests)
        if requested_map(request) not in (tried if isinstance(request, Screen) else scored)
    ]


@dataclass(frozen=True)
class Provenance:
    """The origin of a run: digests of the `contents` it read; `versions` of libraries, Python and the CPU.

    `weights_read` says which weights of the checkpoint were taken, where it can hold several. `files` are
    digests of what the run made once and later commands read, by path in its folder.
    """

    created: str
    contents: Mapping[str, str]
    versions: Mapping[str, str]
    weights_read: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)

"""The loop: propose a map, build and score it, write it down."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qsens.core.errors import PluginError, QsensError, SpecError
from qsens.core.interfaces import Progress, Strategy
from qsens.core.layer import ALL_PRECISIONS, Layer
from qsens.core.maps import anchor_maps, map_title
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Request, Screen, Study, Trial, Yardstick, requested_map, untried
from qsens.run.in_order import InProcess, MapsInOrder, TrialRunner
from qsens.run.journal import Journal, read_journal, read_waiting


class StoppedError(QsensError):
    """The user stopped the sweep; every trial that ended is in the journal."""

    exit_code = 130


def try_maps_here(
    layers: Sequence[Layer],
    *,
    strategy: Strategy,
    evaluate: Callable[[int, Request], Trial],
    journal: Journal,
    progress: Progress,
) -> Study:
    """`try_maps` this process: `evaluate(number, request)` builds and scores one map.

    A map that raises `BuildError` or `ScoreError` becomes a failed trial.
    """
    runner = InProcess(evaluate)
    return try_maps(layers, strategy=strategy, runner=runner, journal=journal, progress=progress)


# The phase of FP32's map.
_REFERENCE = "reference: "


def _no_yardsticks(_: Trial) -> tuple[Yardstick, ...]:
    """For studies that are scored without any."""
    return ()


def try_maps(
    layers: Sequence[Layer],
    *,
    strategy: Strategy,
    runner: TrialRunner,
    journal: Journal,
    progress: Progress,
    yardsticks: Callable[[Trial], tuple[Yardstick, ...]] = _no_yardsticks,
) -> Study:
    """Score FP32, FP16 and INT8 everywhere, then every map of the strategy that is not in the journal yet.

    FP32 is scored before anything else starts, and all maps that a strategy proposes at once before it is
    asked again: so it sees the same trials, whatever number of maps the runner evaluates at a time. The
    study holds all trials, those of earlier runs first. `yardsticks` scores those of the FP32 trial, which
    has them wherever the strategy and the study see it.

    Raises:
        BuildError, ScoreError: if FP32 itself fails, since nothing can be compared without it.
        PluginError: if the strategy proposes layers or precisions that it may not.
        RunFolderError: if a trial cannot be written; earlier ones are on disk.
        WorkersGoneError: if the runner has lost its workers.
        StoppedError: after Ctrl-C.
    """

    def score(requests: Sequence[Request], phase: str = "") -> None:
        def hear(done: int, unfinished: int, request: Request) -> None:
            title = map_title(requested_map(request), layers)
            progress(done, done + unfinished, f"{phase}{title}")

        MapsInOrder(requests, runner, journal).evaluate(hear)

    try:
        anchors = untried(anchor_maps(layers).values(), journal.trials)
        first = 0 if journal.count else 1
        # Counted by itself: yardsticks come before the other maps.
        score(anchors[:first], _REFERENCE)
        scored = yardsticks(journal.trials[0])

        def trials() -> tuple[Trial, ...]:
            fp32, *others = journal.trials
            return replace(fp32, yardsticks=scored), *others

        score(anchors[first:])
        while requests := _next_requests(layers, strategy, trials()):
            score(requests)
    except KeyboardInterrupt:
        raise _stopped(journal.path) from None
    done = journal.count
    progress(done, done, "finished")
    return Study(journal.spec_digest, tuple(layers), trials())


def _stopped(journal: Path) -> StoppedError:
    # Ctrl-C may come between the write and its bookkeeping: what counts is on disk.
    numbers = {trial.number for trial in (*read_journal(journal).trials, *read_waiting(journal))}
    text = "1 map, which is" if len(numbers) == 1 else f"{len(numbers)} maps, all of them"
    return StoppedError(f"stopped after {text} saved", "the same command goes on where this one stopped")


@dataclass(frozen=True)
class PlannedMaps:
    """Maps a sweep would score; `is_complete` is false where more follow that depend on scores.

    `screens` are scored on the samples of the screen only.
    """

    maps: tuple[PrecisionMap, ...]
    is_complete: bool
    screens: tuple[PrecisionMap, ...] = ()

    @property
    def in_order(self) -> tuple[PrecisionMap, ...]:
        """All of them, the screened ones last."""
        return (*self.maps, *self.screens)


def silent(done: int, total: int, label: str) -> None:
    """A `Progress` that says nothing, for steps that are announced otherwise or take a moment."""


def expecting(planned: PlannedMaps | None, progress: Progress) -> Progress:
    """`progress`, told from the start of as many maps as are planned."""
    least = 0 if planned is None else len(planned.in_order)

    def told(done: int, total: int, label: str) -> None:
        progress(done, total if label.startswith(_REFERENCE) else max(total, least), label)

    return told


def plan_maps(layers: Sequence[Layer], strategy: Strategy) -> PlannedMaps:
    """The anchors and what the strategy proposes after them, without building anything.

    Of a chain, what each of them proposes.
    """
    trials = [
        Trial(number, requested, requested, Outcome.SCORED)
        for number, requested in enumerate(untried(anchor_maps(layers).values(), ()))
    ]
    is_complete = True
    for member in strategy.members or (strategy,):
        first = _next_requests(layers, member, trials)
        trials += [_planned_trial(number, request) for number, request in enumerate(first, len(trials))]
        is_complete = is_complete and not _next_requests(layers, member, trials)
    maps = tuple(trial.requested for trial in trials if trial.outcome is Outcome.SCORED)
    screens = tuple(trial.requested for trial in trials if trial.outcome is Outcome.SCREENED)
    return PlannedMaps(maps, is_complete, screens)


def _planned_trial(number: int, request: Request) -> Trial:
    outcome = Outcome.SCREENED if isinstance(request, Screen) else Outcome.SCORED
    return Trial(number, requested_map(request), requested_map(request), outcome)


def too_few_maps_warning(layers: Sequence[Layer], strategy: str, planned: PlannedMaps | None) -> str | None:
    """A sentence where all layers are one block, so that a strategy by block can only try the anchors."""
    blocks = {layer.block for layer in layers}
    is_one_block = len(blocks) == 1 < len(layers)
    if planned is None or not is_one_block or len(planned.in_order) > len(anchor_maps(layers)):
        return None
    return (
        f"{strategy} tries no map between INT8 and FP16 everywhere: by their names all {len(layers)} "
        f"layers are one block, {blocks.pop()!r}; try --by layer"
    )


def plan_without_scores(layers: Sequence[Layer], strategy: Strategy) -> PlannedMaps | None:
    """`plan_maps`, or `None` where the strategy cannot say without scores.

    Raises:
        SpecError: if the strategy refuses these layers.
    """
    try:
        return plan_maps(layers, strategy)
    except SpecError:
        raise
    except Exception:  # it may look for scores, which there are none of yet
        return None


def _next_requests(layers: Sequence[Layer], strategy: Strategy, trials: Sequence[Trial]) -> list[Request]:
    proposed = strategy.propose(tuple(layers), tuple(trials))
    checked = _Checked(layers, strategy)
    fresh = untried([checked.request(request) for request in proposed], trials)
    if proposed and not fresh:
        raise PluginError(
            f"the strategy {strategy.name!r} proposes only maps that were tried already",
            "it would never end: report this to its authors",
        )
    return fresh


class _Checked:
    """Proposals in their canonical form, so that equal assignments are tried once; those of no map refused.

    What the layers allow is looked up once: a strategy proposes as many maps as there are layers, or more.
    """

    def __init__(self, layers: Sequence[Layer], strategy: Strategy) -> None:
        self._names = [layer.name for layer in layers]
        self._known = set(self._names)
        self._restricted = [layer for layer in layers if layer.allowed != ALL_PRECISIONS]
        self._strategy = strategy.name

    def request(self, request: Request) -> Request:
        """The request for the same map. Raises `PluginError` for unknown layers and forbidden precisions."""
        checked = self._map(requested_map(request))
        return Screen(checked) if isinstance(request, Screen) else checked

    def _map(self, requested: PrecisionMap) -> PrecisionMap:
        unknown = [name for name, _ in requested.overrides if name not in self._known]
        if unknown:
            raise PluginError(
                f"the strategy {self._strategy!r} proposes a layer that is not there: {unknown[0]!r}",
                "report this to its authors",
            )
        checked = PrecisionMap.over(requested.assignment(self._names))
        is_baseline = checked == PrecisionMap(Precision.FP32)
        for layer in self._restricted:
            if checked[layer.name] not in layer.allowed and not is_baseline:
                raise PluginError(
                    f"the strategy {self._strategy!r} proposes {checked[layer.name]} for {layer.name!r}, "
                    f"which allows {', '.join(sorted(layer.allowed))}",
                    "report this to its authors",
                )
        return checked

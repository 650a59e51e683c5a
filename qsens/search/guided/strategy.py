"""Strategy `guided`: the best map for a fraction of the evaluations."""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from qsens.core.errors import SpecError
from qsens.core.interfaces import Decision, Strategy
from qsens.core.layer import Layer
from qsens.core.precision import Precision
from qsens.core.start import StartingPoint
from qsens.core.trial import Request, Screen, Trial, untried
from qsens.search.budget_use import BudgetShare, BudgetUse
from qsens.search.enumerations import Unit, units_of
from qsens.search.guided.knowledge import NOTHING, SearchKnowledge, percent
from qsens.search.guided.replay import OutOfTimeError, Replay, UnansweredError
from qsens.search.guided.start import SearchStart
from qsens.search.guided.steps import Search, SearchGoal
from qsens.search.unit_maps import UnitMaps, check_times, read_layer_times
from qsens.selection.budget import DEFAULT_BUDGET, Budget, parse_guard

# FP32 where FP16 overflows may let other layers overflow: no more rounds than this.
_MOST_WIDENINGS = 3


class Guided(Strategy):
    """Screens every unit alone, the boundaries and the worst pairs, then scores what should save most.

    It looks for the largest saving within `budget` and `guard` (those of the spec by default). Savings are
    multiply-accumulates, or the milliseconds of `latency`, a file of `qsens bench` with INT8 everywhere and a
    float map. With `least_saving` (0 to 1, a share of what INT8 everywhere saves) or `limit_ms` (of a whole
    map, where there is a `latency`) it looks for the least damage that saves enough instead.
    `time_limit_s` ends the search after so many seconds of scoring; `front` scores that many more maps,
    spread over all savings. `explain` screens the best map with each other unit in INT8 too, so that every
    unit left in float has a trial that says why.

    Layers in which FP16 overflows stay in FP32. `explain_search` tells each step with the trials behind it.
    """

    name = "guided"
    _start: StartingPoint | None = None

    def __init__(  # noqa: PLR0913 - each is an option of the spec, by keyword only
        self,
        *,
        by: str = "layer",
        budget: str | None = None,
        guard: str | None = None,
        least_saving: float | None = None,
        latency: str | None = None,
        limit_ms: float | None = None,
        time_limit_s: float | None = None,
        front: int = 0,
        explain: bool = True,
        float_precision: Precision = Precision.FP16,
    ) -> None:
        self.by = by
        self.budget = None if budget is None else Budget.parse(str(budget))
        self.guard = parse_guard(None if guard is None else str(guard))
        if least_saving is not None and not 0.0 < least_saving <= 1.0:
            raise SpecError(f"guided cannot save {least_saving} of everything", "use a share of 0 to 1: 0.8")
        if limit_ms is not None and (latency is None or least_saving is not None):
            raise SpecError(
                f"a limit of {limit_ms:g} ms needs the times of layers, and excludes least_saving",
                "add --option strategy.latency=FILE, a file of qsens bench",
            )
        if front < 0:
            raise SpecError(f"guided cannot score {front} more maps", "use front of 0 or more")
        self.goal = SearchGoal(least_saving=least_saving, front=front, explains=explain)
        self.times = None if latency is None else read_layer_times(Path(latency))
        self.limit_ms = limit_ms
        self.time_limit_s = time_limit_s
        self.float_precision = Precision(float_precision)
        self.keeps_to_budget = least_saving is None and limit_ms is None

    def propose(self, layers: Sequence[Layer], trials: Sequence[Trial]) -> list[Request]:
        """The next maps of the search; what is asked at once does not depend on each other.

        Raises:
            SpecError: where the budget cannot be read on the scores, or the latency file is of another
                generator.
        """
        if self.times is not None:
            check_times(self.times.saved_ms, layers)
        units = units_of(layers, self.by)
        if not any(trial.scores for trial in trials):
            return self._planned(units, trials)
        try:
            self._search(Replay(trials, self.time_limit_s), layers, units, trials)
        except UnansweredError as unanswered:
            return unanswered.requests
        except OutOfTimeError:
            return []
        return []

    def starting_from(self, start: StartingPoint) -> "Guided":
        """The same search from the map of another run.

        Where that still keeps to the budget, no unit is screened alone that the other run knew.
        """
        started = copy.copy(self)
        started._start = start
        return started

    def explain_search(self, layers: Sequence[Layer], trials: Sequence[Trial]) -> tuple[Decision, ...]:
        """The decisions so far, in order, each with the trials it rests on."""
        replay = Replay(trials, self.time_limit_s)
        try:
            self._search(replay, layers, units_of(layers, self.by), trials)
        except UnansweredError:
            replay.note("The search is not finished")
        except OutOfTimeError:
            replay.note(f"The search ended at its time limit of {self.time_limit_s:g} s")
        return replay.decisions

    def _search(
        self, replay: Replay, layers: Sequence[Layer], units: Sequence[Unit], trials: Sequence[Trial]
    ) -> None:
        use = BudgetUse.of_run(layers, trials, self._budget(), self.guard)
        maps = self._with_wide_floats(replay, units, use)
        savings = maps.savings(None if self.times is None else self.times.saved_ms)
        known = SearchKnowledge(replay, maps, use, _shares(savings))
        known.score(NOTHING)
        everything = frozenset(maps.movable)
        if not everything:
            replay.note("No unit may run in INT8: there is nothing to choose")
            return
        all_int8 = known.score(everything)
        seen = f"INT8 everywhere uses {percent(all_int8.share)} of the budget"
        least = self._least_saving(replay, sum(savings))
        if least is not None:
            # No budget decides here: uses are counted in that of INT8 everywhere.
            known.use = replace(use, unit=max(_unit_of(known, all_int8), 1e-9))
        elif all_int8.share <= 1.0:
            free = f"every {known.word} is free to run in INT8 or {maps.float_precision.upper()}"
            replay.note(f"{seen}: {free}", known.trial(everything))
            return
        if least is None:
            floats = f"{maps.float_precision.upper()} {percent(known.full(NOTHING).share)}"
            replay.note(f"{seen}, {floats}", *replay.asked)
        else:
            replay.note(f"Sought: {percent(least)} of what INT8 everywhere saves, for the least damage")
        start = None if self._start is None else SearchStart.of(self._start, maps)
        Search(known, replace(self.goal, least_saving=least), start).run()

    def _least_saving(self, replay: Replay, saved_ms: float) -> float | None:
        """The saving that must be reached, 0 to 1; `None` where the budget decides."""
        if self.times is None or self.limit_ms is None:
            return self.goal.least_saving
        needed, best = self.times.float_ms - self.limit_ms, self.times.float_ms - saved_ms
        if needed > saved_ms:
            replay.note(
                f"Even INT8 everywhere is expected to take {best:.3g} ms, more than {self.limit_ms:g}"
            )
        return min(max(needed / saved_ms, 0.0), 1.0) if saved_ms else 1.0

    def _with_wide_floats(self, replay: Replay, units: Sequence[Unit], use: BudgetUse) -> UnitMaps:
        """Maps whose float layers keep to the budget: FP32 where FP16 overflows, or everywhere if need be."""
        maps = UnitMaps.of(units, self.float_precision)
        for _ in range(_MOST_WIDENINGS):
            (trial,) = replay.ask([maps.floats])
            wide = frozenset(layer for layer, count in trial.fp16_overflows if count)
            if not wide - maps.wide:
                break
            replay.note(f"FP32 for {', '.join(sorted(wide))}: FP16 overflows there", trial)
            maps = UnitMaps.of(units, self.float_precision, maps.wide | wide)
        (trial,) = replay.ask([maps.floats])
        found = use.full(trial)
        if maps.float_precision is not Precision.FP32 and (found is None or found.share > 1.0):
            replay.note("FP32 instead of FP16: without any INT8 it is beyond the budget", trial)
            maps = UnitMaps.of(units, Precision.FP32)
        return maps

    def _planned(self, units: Sequence[Unit], trials: Sequence[Trial]) -> list[Request]:
        """The first requests, and one map after them: a plan has no scores to go by."""
        maps = UnitMaps.of(units, self.float_precision)
        alone = untried((Screen(maps.with_int8([place])) for place in maps.movable), trials)
        return list(alone) or list(untried([Screen(maps.with_int8(maps.movable[:2]))], trials))

    def _budget(self) -> Budget:
        if self.budget is not None:
            return self.budget
        return Budget.parse(DEFAULT_BUDGET) if self.keeps_to_budget else Budget(1.0)


def _unit_of(known: SearchKnowledge, all_int8: BudgetShare) -> float:
    """The use of INT8 everywhere; the sum of what the units use alone where that map failed."""
    if math.isfinite(all_int8.share):
        return all_int8.share
    known.screen(frozenset([place]) for place in known.maps.movable)
    known.learn_alone({})
    return math.fsum(known.alone[place] for place in known.candidates)


def _shares(savings: Sequence[float]) -> tuple[float, ...]:
    total = sum(savings)
    return tuple(saving / total if total else 0.0 for saving in savings)

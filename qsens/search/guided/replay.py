"""A search written as one run through its steps, replayed from the trials each time more maps are asked."""

from collections.abc import Sequence

from qsens.core.interfaces import Decision
from qsens.core.precision import PrecisionMap
from qsens.core.trial import Outcome, Request, Screen, Trial, requested_map


class UnansweredError(Exception):
    """The replay cannot go on before these requests are answered."""

    def __init__(self, requests: list[Request]) -> None:
        super().__init__(f"{len(requests)} requests without a trial")
        self.requests = requests


class OutOfTimeError(Exception):
    """The trials of the replay have taken all the time there is."""


class Replay:
    """Answers requests from trials, in the order of the search, so that it goes the same way when resumed.

    `time_limit_s` is for the seconds that its trials took, together.
    """

    def __init__(self, trials: Sequence[Trial], time_limit_s: float | None = None) -> None:
        self._trials = tuple(trials)
        self._limit_s = time_limit_s
        self._screens: dict[PrecisionMap, Trial] = {}
        self._full: dict[PrecisionMap, Trial] = {}
        for trial in self._trials:
            kept = self._screens if trial.outcome is Outcome.SCREENED else self._full
            kept.setdefault(trial.requested, trial)
        self._asked: dict[int, Trial] = {}
        self._decisions: list[Decision] = []

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The notes so far."""
        return tuple(self._decisions)

    @property
    def asked(self) -> tuple[Trial, ...]:
        """The trials that answered so far, each once."""
        return tuple(self._asked.values())

    def ask(self, requests: Sequence[Request]) -> list[Trial]:
        """The trials that answer, in the order of the requests.

        Raises:
            UnansweredError: with all requests that no trial answers.
            OutOfTimeError: if there are such requests, and no time for them.
        """
        if missing := self._missing(requests):
            if self._limit_s is not None and self._spent_s() >= self._limit_s:
                raise OutOfTimeError
            raise UnansweredError(missing)
        answers = [self._answer(request) for request in requests]
        self._asked |= {trial.number: trial for trial in answers}
        return answers

    def note(self, text: str, *trials: Trial) -> None:
        """Write a decision down."""
        self._decisions.append(Decision(text, tuple(trial.number for trial in trials)))

    def _missing(self, requests: Sequence[Request]) -> list[Request]:
        return [
            request
            for request in dict.fromkeys(requests)
            if requested_map(request) not in self._full
            and not (isinstance(request, Screen) and requested_map(request) in self._screens)
        ]

    def _answer(self, request: Request) -> Trial:
        requested = requested_map(request)
        # A map that was screened first and scored later must not change what its screen led to.
        if isinstance(request, Screen) and requested in self._screens:
            return self._screens[requested]
        return self._full[requested]

    def _spent_s(self) -> float:
        return sum(trial.duration_s for trial in self._asked.values())

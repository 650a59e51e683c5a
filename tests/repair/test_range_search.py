"""The search over ranges: what it finds, and how often it asks."""

import math

import pytest

from qsens.repair.range_search import search_ranges


def silent(done: int, total: int, label: str) -> None:
    """A `Progress` that says nothing."""


class Bowl:
    """An error with one least point for each tensor, coupled where `coupling` is not zero."""

    def __init__(self, start: dict[str, float], best: dict[str, float], coupling: float = 0.0) -> None:
        self.start, self.best, self.coupling = start, best, coupling
        self.asked: list[dict[str, float]] = []

    def __call__(self, amax: dict[str, float]) -> float:
        self.asked.append(dict(amax))
        off = [math.log({**self.start, **amax}[name] / best) for name, best in self.best.items()]
        return sum(value**2 for value in off) + self.coupling * abs(sum(off))


CANDIDATES = {"a": (1.0, 2.0, 4.0, 8.0), "b": (1.0, 2.0, 4.0, 8.0), "c": (3.0,)}
START = {"a": 8.0, "b": 2.0, "c": 3.0}


@pytest.mark.parametrize("best_a", [1.0, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("best_b", [1.0, 2.0, 4.0, 8.0])
def test_the_best_candidate_of_each_tensor_is_found(best_a, best_b):
    bowl = Bowl(START, {"a": best_a, "b": best_b})
    found = search_ranges(START, CANDIDATES, bowl, silent)
    assert {**START, **found.amax} == {"a": best_a, "b": best_b, "c": 3.0}
    assert found.error == pytest.approx(0.0)
    assert all(START[name] != amax for name, amax in found.amax.items())


def test_another_pass_takes_up_what_depends_on_other_tensors():
    bowl = Bowl(START, {"a": 2.0, "b": 4.0}, coupling=0.4)
    found = search_ranges(START, CANDIDATES, bowl, silent)
    assert {**START, **found.amax} == {"a": 2.0, "b": 4.0, "c": 3.0}


@pytest.mark.parametrize("most_tries", [0, 1, 3])
def test_tries_are_bounded_and_the_best_so_far_is_kept(most_tries):
    bowl = Bowl(START, {"a": 1.0, "b": 1.0})
    found = search_ranges(START, CANDIDATES, bowl, silent, most_tries=most_tries)
    assert found.tries == most_tries == len(bowl.asked) - 1
    assert found.error == min(map(Bowl(START, bowl.best), bowl.asked))


def test_an_error_that_cannot_be_told_is_never_better():
    found = search_ranges(START, CANDIDATES, lambda amax: math.nan if amax else 1.0, silent)
    assert not found.amax
    assert found.error == 1.0

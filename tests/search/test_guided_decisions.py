"""What `guided` says of its search: each step in words, with the trials it rests on."""

import re
from dataclasses import replace

import pytest
from guided_problems import FP32_FID, Problem, best_found, chain, int8_in, random_problem, scored, searched

from qsens.core.trial import Outcome
from qsens.search.guided.strategy import Guided

PROBLEM = replace(random_problem(4, 8), duration_s=10.0)
LIMIT = 0.3 * PROBLEM.everything
OPTIONS = {"budget": f"{LIMIT:.9f}"}


@pytest.fixture(scope="module")
def trials():
    return searched(Guided(**OPTIONS), PROBLEM)


def told(trials, problem=PROBLEM, **options):
    return Guided(**{**OPTIONS, **options}).explain_search(problem.layers, trials)


def share_of(text, pattern) -> float:
    return float(re.search(pattern, text)[1]) / 100


def test_every_decision_rests_on_trials_that_there_are(trials):
    decisions = told(trials)
    assert len(decisions) >= 5
    for decision in decisions:
        assert decision.trials
        assert len(set(decision.trials)) == len(decision.trials)
        assert all(trials[number].number == number for number in decision.trials)


def test_shares_in_words_are_those_of_the_trials(trials):
    scores = [decision for decision in told(trials) if "saves, for" in decision.text]
    assert scores
    for decision in scores:
        (number,) = decision.trials
        requested = trials[number].requested
        use = trials[number].score("fid[lite0]").value - FP32_FID
        assert trials[number].outcome is Outcome.SCORED
        assert share_of(decision.text, r"for ([\d.]+)% of the budget") == pytest.approx(
            use / LIMIT, abs=0.006
        )
        saving = PROBLEM.saving(int8_in(PROBLEM.layers, requested))
        assert share_of(decision.text, r"([\d.]+)% of what INT8 everywhere saves") == pytest.approx(
            saving, abs=0.006
        )
        assert decision.text.endswith("no better") or use <= LIMIT


def test_the_last_best_map_is_the_best_one(trials):
    best = [decision for decision in told(trials) if decision.text.endswith("the best so far")][-1]
    found = int8_in(PROBLEM.layers, trials[best.trials[0]].requested)
    assert found == best_found(PROBLEM, trials, LIMIT)


def test_the_ends_and_the_units_alone_come_first(trials):
    ends, alone = told(trials)[:2]
    assert ends.trials == (1, 2)
    assert share_of(ends.text, r"everywhere uses ([\d.]+)%") == pytest.approx(1 / 0.3, abs=0.01)
    assert {int8_in(PROBLEM.layers, trials[number].requested) for number in alone.trials} <= {
        frozenset([place]) for place in range(8)
    }


def test_units_beyond_the_budget_alone_are_named():
    problem = Problem(chain([100] * 6), lambda chosen: sum(9.0 if place == 3 else 1.0 for place in chosen))
    found = searched(Guided(budget="4.5"), problem)
    (alone,) = (decision for decision in told(found, problem, budget="4.5") if "tried alone" in decision.text)
    assert alone.text.endswith("beyond the budget: conv3")
    assert [int8_in(problem.layers, found[number].requested) for number in alone.trials] == [{3}]


def test_damages_that_do_not_add_are_told_from_pairs():
    problem = Problem(chain([100] * 6), lambda chosen: 0.5 * float(len(chosen)) ** 2)
    found = searched(Guided(budget="9.0"), problem)
    pairs = next(decision for decision in told(found, problem, budget="9.0") if "Pairs" in decision.text)
    # Two use 2 where the sum is 1.
    assert "use 2.00 to 2.00 times the sum" in pairs.text
    assert {len(int8_in(problem.layers, found[number].requested)) for number in pairs.trials} == {2}


def test_maps_given_up_after_a_screen_were_screened_only():
    given_up = [
        decision
        for seed in range(6)
        for problem in [random_problem(seed, 8, interaction=0.3)]
        for options in [{"budget": f"{0.3 * problem.everything:.9f}"}]
        for found in [searched(Guided(**options), problem)]
        for decision in told(found, problem, **options)
        if decision.text.startswith("Given up") and found[decision.trials[0]].outcome is not Outcome.SCREENED
    ]
    assert given_up == []


def test_a_search_that_goes_on_says_so_and_a_finished_one_does_not(trials):
    assert told(trials[:20])[-1].text == "The search is not finished"
    assert "not finished" not in told(trials)[-1].text


def test_a_search_out_of_time_says_so(trials):
    stopped = searched(Guided(**OPTIONS, time_limit_s=50.0), PROBLEM)
    assert told(stopped, time_limit_s=50.0)[-1].text == "The search ended at its time limit of 50 s"


def test_decisions_of_a_prefix_are_the_first_of_the_whole(trials):
    whole = [decision.text for decision in told(trials)]
    for count in range(4, len(trials), 5):
        part = [decision.text for decision in told(trials[:count])[:-1]]
        assert part == whole[: len(part)]


def test_int8_within_the_budget_needs_no_search():
    (decision,) = told(searched(Guided(budget="1000"), PROBLEM), budget="1000")
    assert decision.text.endswith("every layer is free to run in INT8 or FP16")
    assert decision.trials == (2,)


def test_maps_of_a_front_are_told_as_such():
    found = searched(Guided(**OPTIONS, front=3), PROBLEM)
    front = [decision for decision in told(found, front=3) if decision.text.startswith("For the front")]
    assert front
    assert all(found[number] in scored(found) for decision in front for number in decision.trials)


@pytest.mark.parametrize("seed", range(6))
def test_where_screens_are_scores_the_search_ends_on_the_best_map_that_it_has(seed):
    """With few samples a screen is a score: what it finds counts, whoever asked for it."""
    problem = random_problem(seed, 7, screen=None)
    limit = 0.3 * problem.everything
    strategy = Guided(budget=f"{limit:.9f}")
    trials = searched(strategy, problem)
    best = best_found(problem, trials, limit)
    (number,) = strategy.explain_search(problem.layers, trials)[-1].trials
    assert int8_in(problem.layers, trials[number].requested) == best

"""The walk that is replayed from trials."""

import pytest

from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Screen, Trial
from qsens.search.guided.replay import OutOfTimeError, UnansweredError, Walk

ONE, TWO, THREE = (PrecisionMap(precision) for precision in Precision)


def trial(number, requested, outcome=Outcome.SCORED, seconds=1.0):
    return Trial(number, requested, requested, outcome, duration_s=seconds)


def test_answers_come_in_the_order_of_the_requests():
    walk = Walk([trial(0, ONE), trial(1, TWO, Outcome.SCREENED), trial(2, THREE, Outcome.FAILED)])
    answers = walk.ask([Screen(THREE), Screen(TWO), ONE])
    assert [answer.number for answer in answers] == [2, 1, 0]
    assert [answer.number for answer in walk.asked] == [2, 1, 0]
    assert walk.ask([]) == []


def test_all_requests_without_an_answer_are_told_at_once():
    walk = Walk([trial(0, ONE), trial(1, TWO, Outcome.SCREENED)])
    with pytest.raises(UnansweredError) as caught:
        walk.ask([TWO, ONE, Screen(THREE), Screen(TWO), TWO])
    assert caught.value.requests == [TWO, Screen(THREE)]


def test_a_full_score_that_came_later_does_not_change_what_a_screen_led_to():
    trials = [trial(0, ONE, Outcome.SCREENED), trial(1, ONE)]
    walk = Walk(trials)
    assert [answer.number for answer in walk.ask([Screen(ONE)])] == [0]
    assert [answer.number for answer in walk.ask([ONE])] == [1]
    # Where the full score was first, or the only one, it answers both.
    assert Walk([trial(0, ONE)]).ask([Screen(ONE)]) == [trial(0, ONE)]


def test_time_is_that_of_the_trials_that_answered():
    trials = [trial(0, ONE, seconds=50.0), trial(1, TWO, seconds=3.0), trial(2, ONE, seconds=50.0)]
    with pytest.raises(UnansweredError):
        Walk(trials, 4.0).ask([THREE])
    walk = Walk(trials, 3.0)
    walk.ask([TWO])
    walk.ask([TWO])
    with pytest.raises(OutOfTimeError):
        walk.ask([THREE])
    assert walk.ask([ONE])[0].number == 0


def test_decisions_hold_the_numbers_of_their_trials():
    walk = Walk([])
    walk.note("so it was", trial(4, ONE), trial(2, TWO))
    walk.note("the end")
    assert [(each.text, each.trials) for each in walk.decisions] == [("so it was", (4, 2)), ("the end", ())]

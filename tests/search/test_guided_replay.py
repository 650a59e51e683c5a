"""The walk that is replayed from trials."""

import pytest

from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Screen, Trial
from qsens.search.guided.replay import OutOfTimeError, Replay, UnansweredError

ONE, TWO, THREE = (PrecisionMap(precision) for precision in Precision)


def trial(number, requested, outcome=Outcome.SCORED, seconds=1.0):
    return Trial(number, requested, requested, outcome, duration_s=seconds)


def test_answers_come_in_the_order_of_the_requests():
    replay = Replay([trial(0, ONE), trial(1, TWO, Outcome.SCREENED), trial(2, THREE, Outcome.FAILED)])
    answers = replay.ask([Screen(THREE), Screen(TWO), ONE])
    assert [answer.number for answer in answers] == [2, 1, 0]
    assert [answer.number for answer in replay.asked] == [2, 1, 0]
    assert replay.ask([]) == []


def test_all_requests_without_an_answer_are_told_at_once():
    replay = Replay([trial(0, ONE), trial(1, TWO, Outcome.SCREENED)])
    with pytest.raises(UnansweredError) as caught:
        replay.ask([TWO, ONE, Screen(THREE), Screen(TWO), TWO])
    assert caught.value.requests == [TWO, Screen(THREE)]


def test_a_full_score_that_came_later_does_not_change_what_a_screen_led_to():
    trials = [trial(0, ONE, Outcome.SCREENED), trial(1, ONE)]
    replay = Replay(trials)
    assert [answer.number for answer in replay.ask([Screen(ONE)])] == [0]
    assert [answer.number for answer in replay.ask([ONE])] == [1]
    # Where the full score was first, or the only one, it answers both.
    assert Replay([trial(0, ONE)]).ask([Screen(ONE)]) == [trial(0, ONE)]


def test_time_is_that_of_the_trials_that_answered():
    trials = [trial(0, ONE, seconds=50.0), trial(1, TWO, seconds=3.0), trial(2, ONE, seconds=50.0)]
    with pytest.raises(UnansweredError):
        Replay(trials, 4.0).ask([THREE])
    replay = Replay(trials, 3.0)
    replay.ask([TWO])
    replay.ask([TWO])
    with pytest.raises(OutOfTimeError):
        replay.ask([THREE])
    assert replay.ask([ONE])[0].number == 0


def test_decisions_hold_the_numbers_of_their_trials():
    replay = Replay([])
    replay.note("so it was", trial(4, ONE), trial(2, TWO))
    replay.note("the end")
    assert [(each.text, each.trials) for each in replay.decisions] == [("so it was", (4, 2)), ("the end", ())]

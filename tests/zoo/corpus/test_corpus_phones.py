"""Phones over time: what was asked for is said, lips close where they must, durations hold."""

from dataclasses import astuple
from itertools import pairwise

import numpy as np
import pytest

from qsens.zoo.corpus.phones import PAUSE, PHONES, TRACK_RATE, Kind, Spoken, speak, track_of


def said(*names, seconds=0.3):
    return track_of([Spoken(PHONES[name], seconds) for name in names])


@pytest.mark.parametrize("name", ["a", "s", "m", "_"])
def test_one_phone_held_is_its_table_row_throughout(name):
    track = said(name, seconds=0.5)
    phone = PHONES[name]
    assert np.allclose(track.sound, astuple(phone.sound))
    assert np.allclose(track.mouth, astuple(phone.mouth))


def test_a_table_of_different_phones_with_mouths_in_range():
    mouths = np.array([astuple(phone.mouth) for phone in PHONES.values()])
    assert len(PHONES) == 30
    assert mouths.min() >= 0
    assert mouths.max() <= 1
    sounds_and_mouths = [
        (astuple(phone.sound), phone.burst, astuple(phone.mouth)) for phone in PHONES.values()
    ]
    assert len(set(map(str, sounds_and_mouths))) == len(PHONES)


@pytest.mark.parametrize("name", ["m", "b", "p"])
def test_the_lips_meet_in_the_middle_of_a_bilabial(name):
    shortest = PHONES[name].shortest_s
    track = track_of([Spoken(PHONES["a"], 0.2), Spoken(PHONES[name], shortest), Spoken(PHONES["a"], 0.2)])
    opening = track.mouth[:, 0]
    assert opening.min() < 0.08
    assert abs(int(opening.argmin()) - round((0.2 + shortest / 2) * TRACK_RATE)) <= 2
    assert opening[: round(0.12 * TRACK_RATE)].min() > 0.9


def test_a_plosive_is_silent_until_its_burst():
    track = said("a", "t", "a", seconds=0.2)
    noise, voice = track.sound_at(np.array([0.30, 0.39]), "noise"), track.sound_at(np.array([0.30]), "voice")
    assert noise[0] == pytest.approx(0, abs=1e-9)
    assert noise[1] > 0.25
    assert voice[0] == pytest.approx(0, abs=1e-9)


def test_h_has_the_mouth_of_the_vowel_after_it():
    track = said("h", "u")
    assert astuple(track.mouth_at(0.1)) == pytest.approx(astuple(PHONES["u"].mouth))
    assert astuple(said("h", "_").mouth_at(0.1)) == pytest.approx(astuple(PHONES["h"].mouth))


@pytest.mark.parametrize("seed", range(5))
def test_random_speech_lasts_as_long_as_asked_and_stays_in_range(seed):
    track = speak(np.random.default_rng(seed), 3.0)
    assert 3.0 <= track.duration_s < 4.0
    assert track.mouth.min() >= 0
    assert track.mouth.max() <= 1
    assert len(track.names) == len(track.sound) == len(track.mouth)


def test_a_faster_speaker_says_more_in_the_same_time():
    def changes(rate):
        names = speak(np.random.default_rng(1), 60.0, rate=rate).names
        return sum(first != second for first, second in pairwise(names)) / len(names)

    assert changes(1.5) == pytest.approx(1.5 * changes(1.0), rel=0.1)


def test_all_kinds_of_phones_are_said():
    names = set(speak(np.random.default_rng(2), 120.0).names)
    assert {PHONES[name].kind for name in names} == set(Kind)
    assert PAUSE.name in names
    assert len(names) == len(PHONES)

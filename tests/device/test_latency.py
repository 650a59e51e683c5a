"""Latency against a clock that is made up: medians, quartiles and the order of calls are known."""

import numpy as np
import pytest

from qsens.device.latency import (
    Latency,
    interleaved_rounds,
    latencies_of,
    measure_interleaved,
    measure_latency,
)


class Machine:
    """Callables that take the seconds they are told, on a clock that nothing else moves."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def clock(self):
        return self.now

    def runner(self, name, seconds):
        left = iter(seconds)

        def run():
            self.calls.append(name)
            self.now += next(left)

        return run


def test_median_quartiles_and_minimum_are_those_of_the_timed_calls():
    machine = Machine()
    run = machine.runner("a", [9.0, 9.0, 0.004, 0.001, 0.002, 0.003, 0.005])
    found = measure_latency(run, warm_up=2, repeats=5, clock=machine.clock)
    assert found.runs == 5
    assert (found.median_ms, found.p25_ms, found.p75_ms, found.minimum_ms) == pytest.approx((3, 2, 4, 1))


def test_a_lone_callable_is_called_for_warm_up_and_repeats_only():
    machine = Machine()
    measure_latency(machine.runner("a", [0.0] * 100), warm_up=3, repeats=4, clock=machine.clock)
    assert machine.calls == ["a"] * 7


def test_several_take_turns_and_each_timed_call_follows_one_of_its_own():
    machine = Machine()
    runs = {
        name: machine.runner(name, [1.0, *([1.0, 0.001 * place] * 2)]) for place, name in ((1, "a"), (2, "b"))
    }
    found = measure_interleaved(runs, warm_up=1, repeats=2, clock=machine.clock)
    assert machine.calls[:2] == ["a", "b"]
    assert [sorted(machine.calls[start : start + 4]) for start in (2, 6)] == [["a", "a", "b", "b"]] * 2
    assert all(machine.calls[place] == machine.calls[place + 1] for place in (2, 4, 6, 8))
    assert found["a"].median_ms == pytest.approx(1)
    assert found["b"].median_ms == pytest.approx(2)


def test_a_stall_at_even_intervals_hits_all_alike():
    """Every tenth call stalls: in a fixed order of five callables it would always be the same one."""
    machine, count = Machine(), [0]

    def run():
        count[0] += 1
        machine.now += 0.001 + (0.01 if count[0] % 10 == 0 else 0.0)

    rounds = interleaved_rounds(dict.fromkeys("abcde", run), warm_up=0, repeats=100, clock=machine.clock)
    measured = list(rounds)
    hit = [sum(times[name] > 5 for times in measured) for name in "abcde"]
    assert max(hit) < 40
    assert sum(hit) == 100


def test_the_same_seed_gives_the_same_order():
    orders = []
    for seed in (0, 0, 1):
        machine = Machine()
        runs = {name: machine.runner(name, [0.001] * 100) for name in "abcde"}
        measure_interleaved(runs, warm_up=0, repeats=3, seed=seed, clock=machine.clock)
        orders.append(machine.calls)
    assert orders[0] == orders[1] != orders[2]


def test_drift_hits_all_alike():
    """On a machine that gets slower with every call interleaved medians stay close to each other."""
    machine = Machine()

    def slowing():
        machine.now += 0.001 * (1 + 0.01 * machine.now)

    found = measure_interleaved({"a": slowing, "b": slowing}, warm_up=0, repeats=200, clock=machine.clock)
    one_round = 4 * 0.001 * 0.01 * 0.001 * 1000
    assert abs(found["a"].median_ms - found["b"].median_ms) < one_round


def test_rounds_that_were_measured_before_a_stop_are_kept():
    machine = Machine()

    def runs_out():
        machine.now += 0.002
        if machine.now > 0.0095:
            raise KeyboardInterrupt

    rounds = []
    measured = interleaved_rounds({"a": runs_out}, warm_up=0, repeats=50, clock=machine.clock)
    with pytest.raises(KeyboardInterrupt):
        rounds.extend(iter(measured.__next__, None))
    assert latencies_of(rounds)["a"] == Latency(4, *[pytest.approx(2)] * 4)


def test_what_a_round_shares_is_no_spread_of_the_difference():
    """Rounds that are slow as a whole, by factors far larger than the difference of the two."""
    draw = np.random.default_rng(1)
    factors = np.exp(draw.normal(0, 0.5, 200))
    rounds = [
        {"a": 10 * factor * noise, "b": 11 * factor * other}
        for factor, noise, other in zip(factors, *np.exp(draw.normal(0, 0.01, (2, 200))), strict=True)
    ]
    found = latencies_of(rounds)
    one, other = found["a"], found["b"]
    assert other.median_ms - one.median_ms > one.half_width_ms + other.half_width_ms
    assert one.p75_ms - one.p25_ms > 20 * one.half_width_ms
    alone = latencies_of([{"a": times["a"]} for times in rounds])["a"]
    assert alone.half_width_ms > 20 * one.half_width_ms


def test_without_shared_slowness_pairing_changes_little():
    draw = np.random.default_rng(2)
    rounds = [dict(zip("abcd", values, strict=True)) for values in draw.normal(10, 0.2, (300, 4))]
    found = latencies_of(rounds)["a"]
    plain = Latency(found.runs, found.median_ms, found.p25_ms, found.p75_ms, found.minimum_ms)
    assert found.half_width_ms == pytest.approx(plain.half_width_ms, rel=0.15)


def test_a_clock_that_stands_still_is_no_error():
    assert latencies_of([{"a": 0.0, "b": 1.0}])["a"].half_width_ms == 0.0


def test_nothing_measured_is_no_latency():
    assert latencies_of([]) == {}


def test_the_notch_shrinks_with_the_root_of_the_runs():
    few, many = (Latency(runs, 10.0, 9.0, 11.0, 8.0).half_width_ms for runs in (25, 100))
    assert few == pytest.approx(1.57 * 2 / 5)
    assert few == pytest.approx(2 * many)


def test_the_notch_holds_the_difference_of_medians_of_equal_times():
    """Of pairs of equal distributions about 5% of the notches must not overlap; a tenth would be wrong."""
    draw = np.random.default_rng(0)
    apart = 0
    for _ in range(400):
        one, other = (latencies_of([{"a": value} for value in draw.normal(10, 1, 40)])["a"] for _ in range(2))
        apart += abs(one.median_ms - other.median_ms) > one.half_width_ms + other.half_width_ms
    assert 0 < apart < 40

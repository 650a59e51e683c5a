"""Wall-clock time of one inference: warm-up, interleaved repeats, median and spread."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from typing import Callable, Iterator, Mapping, Sequence

Clock = Callable[[], float]
Run = Callable[[], object]
# Half the width of a notch, in interquartile ranges over the root of the number of runs: notches that do
# not overlap are medians that differ at the 95% level (McGill, Tukey & Larsen 1978, Variations of box plots).
_NOTCH = 1.57


@dataclass(frozen=True)
class Latency:
    """Times of `runs` repeats in milliseconds: the median, the quartiles around it, and the shortest.

    `paired_half_width_ms` is half the interval of the median without what all callables of a round shared,
    where several were measured in turn.
    """

    runs: int
    median_ms: float
    p25_ms: float
    p75_ms: float
    minimum_ms: float
    paired_half_width_ms: float | None = None

    @property
    def half_width_ms(self) -> float:
        """Half the interval of the median: two latencies differ where they lie further apart than the sum."""
        if self.paired_half_width_ms is not None:
            return self.paired_half_width_ms
        return notch_half_width_ms(self.p25_ms, self.p75_ms, self.runs)


def notch_half_width_ms(p25_ms: float, p75_ms: float, runs: int) -> float:
    """Half the 95% comparison interval of a median, from the quartiles of that many runs."""
    return _NOTCH * (p75_ms - p25_ms) / math.sqrt(runs)


def measure_latency(run: Run, *, warm_up: int, repeats: int, clock: Clock = time.perf_counter) -> Latency:
    """Time `repeats` calls of `run` after `warm_up` calls that do not count; `clock` is in seconds."""
    return measure_interleaved({"": run}, warm_up=warm_up, repeats=repeats, clock=clock)[""]


def measure_interleaved(
    runs: Mapping[str, Run],
    *,
    warm_up: int,
    repeats: int,
    seed: int = 0,
    clock: Clock = time.perf_counter,
) -> dict[str, Latency]:
    """Time several callables in turn, `repeats` times around, so that drift hits all of them alike.

    As `interleaved_rounds`, summed up.
    """
    rounds = interleaved_rounds(runs, warm_up=warm_up, repeats=repeats, seed=seed, clock=clock)
    return latencies_of(list(rounds))


def interleaved_rounds(
    runs: Mapping[str, Run],
    *,
    warm_up: int,
    repeats: int,
    seed: int = 0,
    clock: Clock = time.perf_counter,
) -> Iterator[dict[str, float]]:
    """Milliseconds of each callable, one round after the other; who stops listening keeps what was measured.

    All are called `warm_up` times first. Where there are several, each timed call has an untimed one before
    it: caches then hold what this callable needs, as they do where it runs alone, and not what another left.
    Every round has another order, drawn with `seed`: a machine that stalls at even intervals, as one with a
    quota of processor time does, would else hit the same callables again and again.
    """
    names, draw = list(runs), random.Random(seed)
    for name in names:
        for _ in range(warm_up):
            runs[name]()
    for _ in range(repeats):
        times = {}
        for name in draw.sample(names, len(names)):
            if len(names) > 1:
                runs[name]()
            start = clock()
            runs[name]()
            times[name] = 1000.0 * (clock() - start)
        yield {name: times[name] for name in names}


def latencies_of(rounds: Sequence[Mapping[str, float]]) -> dict[str, Latency]:
    """Median, quartiles (linearly interpolated) and minimum of each name's milliseconds over the rounds."""
    names = list(rounds[0]) if rounds else []
    paired = _paired_half_widths_ms(rounds) if len(names) > 1 else {}
    return {name: _summary([times[name] for times in rounds], paired.get(name)) for name in names}


def _paired_half_widths_ms(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Half the interval of each median, after the factor is taken out by which a whole round was slow.

    The factor is the round's geometric mean. It holds a part of each time itself, so what is left spreads
    less than the time does, by the root of (n - 1) / n for n callables; that is made good.
    """
    names = list(rounds[0])
    if any(times[name] <= 0 for times in rounds for name in names):
        return {}
    factors = [math.exp(sum(math.log(times[name]) for name in names) / len(names)) for times in rounds]
    middle = _quantile(sorted(factors), 0.5)
    lost = math.sqrt(len(names) / (len(names) - 1))
    found = {}
    for name in names:
        even = sorted(times[name] * middle / factor for times, factor in zip(rounds, factors))
        low, high = _quantile(even, 0.25), _quantile(even, 0.75)
        found[name] = lost * notch_half_width_ms(low, high, len(rounds))
    return found


def _summary(times_ms: Sequence[float], paired_half_width_ms: float | None) -> Latency:
    ordered = sorted(times_ms)
    low, middle, high = (_quantile(ordered, share) for share in (0.25, 0.5, 0.75))
    return Latency(len(ordered), middle, low, high, ordered[0], paired_half_width_ms)


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])

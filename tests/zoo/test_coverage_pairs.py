"""The benchmark of intervals between two maps: what it counts, against numbers worked out here."""

import importlib
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    """Imports a module of the benchmarks by name."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


def test_rows_hold_the_differences_of_two_maps_and_their_paired_errors(module):
    draws, pairs = module("coverage_draws"), module("coverage_pairs")
    case = draws.SyntheticCase(4, 12)
    rows = dict(pairs.synthetic_pair_rows(case, 3))
    assert list(rows) == [f"{name}, far minus middle" for name in ("fid", "fid-fp32", "kid")]

    random = draws.random_of(case)
    reference = draws.real_features(case, random)
    metric = draws.METRICS["kid"]
    for place, (context, moved) in enumerate(
        islice(draws.synthetic_draws(case, random, reference, pairs.PAIR), 3)
    ):
        far, middle = (draws.measured(metric, context, moved[name]) for name in pairs.PAIR)
        row = rows["kid, far minus middle"]
        assert row.values[place] == pytest.approx(far.score.value - middle.score.value)
        plain = [
            np.std(influence, ddof=1) / np.sqrt(12)
            for influence in (far.influence, middle.influence, far.influence - middle.influence)
        ]
        factor = max(far.score.standard_error / plain[0], middle.score.standard_error / plain[1])
        assert row.errors[place] == pytest.approx(factor * plain[2])


def test_the_truth_of_a_pair_is_the_difference_of_both_truths(module):
    draws, pairs = module("coverage_draws"), module("coverage_pairs")
    case = draws.SyntheticCase(4, 12)
    truth = dict(pairs.synthetic_pair_rows(case, 2))["fid-fp32, far minus middle"].truth
    spread = draws.deviations(4)
    far, middle = pairs.PAIR.values()

    def from_fp32(change):
        mean = (change.gain - 1) * draws.FP32.step + change.step
        width = np.hypot(change.gain * draws.FP32.gain, change.noise) - draws.FP32.gain
        return np.sum(np.square(spread)) * (mean**2 + width**2)

    assert truth == pytest.approx(from_fp32(far) - from_fp32(middle))

"""Thresholds that a tensor might have: those of all range methods, and statistics across samples."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from qsens.calibration.batches import InputCache
from qsens.calibration.measure import Observer, groups_of_tensors
from qsens.calibration.ranges import RangeCollector
from qsens.calibration.thresholds import (
    Histogram,
    Method,
    amax_from_histogram,
    percentile,
    with_half_scale,
)
from qsens.core.interfaces import Progress, SampleSet

# Shares of all values that do not exceed a threshold.
SHARES = (0.999, 0.9999, 0.99999)
# Of each sample's own values, whose thresholds are averaged over samples.
SAMPLE_SHARES = (0.999, 0.9999)
# Names of the statistics across samples, in the order in which they are made.
_ACROSS_SAMPLES = (
    "mean of maxima",
    "median of maxima",
    *(f"mean of {share:g} quantiles" for share in SAMPLE_SHARES),
)


def range_candidates(
    observer: Observer, tensors: Sequence[str], samples: SampleSet, progress: Progress
) -> dict[str, dict[float, str]]:
    """Candidates for the range of each tensor: different thresholds, ascending, with the method of each.

    They are the maximum, percentiles, least squared error and least divergence of all values, and across
    samples the mean and the median of each sample's maximum, and the mean of each sample's percentiles.
    Statistics across samples are those of NNCF's range estimators.
    """
    feeds = InputCache(samples, observer.graph, 1)
    found: dict[str, dict[float, str]] = {}
    for group in groups_of_tensors(observer.graph, tensors):
        collector = RangeCollector(group, Method.MSE)
        maxima: list[Mapping[str, float]] = []
        for index, extremes in enumerate(observer.extremes(group, feeds)):
            progress(index, feeds.sample_count, "repair: extremes")
            collector.observe_extremes(extremes)
            maxima.append({name: float(np.abs(extremes[name]).max()) for name in group})
        shares: dict[str, list[tuple[float, ...]]] = {name: [] for name in group}
        for index, values in enumerate(observer.values(group, feeds)):
            progress(index, feeds.sample_count, "repair: histograms")
            before = {name: collector.histogram(name).counts.copy() for name in group}
            collector.observe_histogram(values)
            for name in group:
                whole = collector.histogram(name)
                own = Histogram(whole.counts - before[name], whole.maximum)
                shares[name].append(tuple(percentile(own, share) for share in SAMPLE_SHARES))
        for name in group:
            of_samples = [entry[name] for entry in maxima]
            means = np.mean(shares[name], axis=0).tolist()
            across = [float(np.mean(of_samples)), float(np.median(of_samples)), *means]
            wished = _of_all_values(collector.histogram(name))
            found[name] = _different([*wished, *zip(_ACROSS_SAMPLES, across, strict=True)])
    return found


def _of_all_values(histogram: Histogram) -> list[tuple[str, float]]:
    methods = (Method.MINMAX, Method.MSE, Method.ENTROPY)
    return [
        *((str(method), amax_from_histogram(histogram, method)) for method in methods),
        *((f"percentile {share:g}", percentile(histogram, share)) for share in SHARES),
    ]


def _different(wished: Iterable[tuple[str, float]]) -> dict[float, str]:
    found: dict[float, str] = {}
    for method, amax in wished:
        if amax > 0:
            found.setdefault(with_half_scale(float(np.float32(amax))), method)
    return dict(sorted(found.items()))

"""Draws of the difference of two maps that both differ from FP32, with the error that a run gives it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, islice
from pathlib import Path

import numpy as np
from coverage_draws import (
    MAPS,
    METRICS,
    Row,
    SyntheticCase,
    SyntheticMap,
    context_of,
    known_difference,
    measured,
    pixel_scores,
    random_of,
    real_features,
    synthetic_draws,
)
from large_runs import LargeRun, MadeMap
from numpy.typing import NDArray

from qsens.core.interfaces import Measurement, ScoringContext
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Score, Trial
from qsens.run.evidence import Evidence, save_evidence
from qsens.run.paired_errors import paired_errors
from qsens.scoring.intervals import heavy_tailed_error

# Measurements of one map by metric.
Measured = Mapping[str, Measurement]
# Two maps that hurt in like measure, each with noise of its own.
PAIR = {"far": MAPS["far"], "middle": SyntheticMap(0.98, 0.01, 0.2)}
_ANY_MAP = PrecisionMap(Precision.INT8)


def synthetic_pair_rows(case: SyntheticCase, draws: int) -> Iterator[tuple[str, Row]]:
    """Rows of fid, fid-fp32 and kid for `far` minus `middle`."""
    random = random_of(case)
    reference = real_features(case, random)
    rows = {}
    for metric in METRICS:
        far, middle = (
            known_difference(metric, change, case.dimension, reference) for change in PAIR.values()
        )
        rows[metric] = Row(None if far is None or middle is None else far - middle)
    with tempfile.TemporaryDirectory(prefix="qsens-pairs-") as folder:
        for context, moved in islice(synthetic_draws(case, random, reference, PAIR), draws):
            pair = [_measured_features(context, moved[name]) for name in PAIR]
            _add(rows, Path(folder), pair, context.clusters)
    for metric, row in rows.items():
        yield f"{metric}, {' minus '.join(PAIR)}", row


def run_pair_rows(run: LargeRun, images: int, draws: int) -> Iterator[tuple[str, Row]]:
    """Rows of every metric for every pair of maps of a large run, over subsets of `images`."""
    everything = np.arange(run.images)
    whole = {name: _measured_map(run, made, everything) for name, made in run.maps.items()}
    pairs = list(combinations(run.maps, 2))
    rows = {
        pair: {
            metric: Row(_value(whole[pair[0]], metric) - _value(whole[pair[1]], metric), images / run.images)
            for metric in whole[pair[0]]
        }
        for pair in pairs
    }
    random = np.random.default_rng(images)
    with tempfile.TemporaryDirectory(prefix="qsens-pairs-") as folder:
        for _ in range(draws):
            chosen = run.draw(random, images)
            clusters = None if run.clusters is None else run.clusters[chosen]
            found = {name: _measured_map(run, made, chosen) for name, made in run.maps.items()}
            for pair in pairs:
                _add(rows[pair], Path(folder), [found[name] for name in pair], clusters)
    for (one, other), by_metric in rows.items():
        for metric, row in by_metric.items():
            yield f"{metric}, {one} minus {other}", row


def _add(
    rows: Mapping[str, Row], folder: Path, pair: Sequence[Measured], clusters: NDArray[np.intp] | None
) -> None:
    """Add one draw to each row, its error read from the evidence as a report reads it."""
    one, other = pair
    trials = _kept_trials(folder, pair, clusters)
    error = paired_errors(folder)
    for metric, row in rows.items():
        row.add(_value(one, metric) - _value(other, metric), error(one[metric].score.metric, *trials))


def _kept_trials(
    folder: Path, measured_maps: Sequence[Measured], clusters: NDArray[np.intp] | None
) -> list[Trial]:
    trials = []
    for number, found in enumerate(measured_maps):
        influences = {
            entry.score.metric: entry.influence for entry in found.values() if entry.influence is not None
        }
        save_evidence(folder, number, Evidence(None, influences, clusters))
        scores = tuple(entry.score for entry in found.values())
        trials.append(Trial(number, _ANY_MAP, _ANY_MAP, Outcome.SCORED, scores))
    return trials


def _measured_map(run: LargeRun, made: MadeMap, chosen: NDArray[np.intp]) -> dict[str, Measurement]:
    clusters = None if run.clusters is None else run.clusters[chosen]
    context = replace(context_of(run.reference, run.fp32[chosen], clusters), images=len(chosen))
    found = _measured_features(context, made.features[chosen])
    pixels = pixel_scores(made.squared_errors[chosen], made.similarities[chosen])
    for name, (value, influence) in pixels.items():
        error = heavy_tailed_error(influence, clusters)
        score = Score(name, value, len(chosen), "fp32", lower_is_better=False, standard_error=error)
        found[name] = Measurement(score, influence)
    return found


def _measured_features(context: ScoringContext, features: NDArray[np.generic]) -> dict[str, Measurement]:
    return {name: measured(metric, context, features) for name, metric in METRICS.items()}


def _value(found: Measured, metric: str) -> float:
    return found[metric].score.value

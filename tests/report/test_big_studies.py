"""What readers of a study ask for again and again is worked out once, whatever the number of trials."""

from collections import Counter

import pytest
from report_studies import METRICS, boundary_study, isolating_study, student_layers

from qsens.core import maps, trial
from qsens.core.maps import MapShapes, anchor_trial, cuts_of, ends_of, int8_share, isolations_of, map_title
from qsens.core.precision import Precision
from qsens.report.figures.boundary_curve import boundary_curve
from qsens.report.figures.sensitivity import sensitivity_of
from qsens.report.figures.tradeoff import tradeoff
from qsens.report.tables import trials_table

LAYERS = student_layers()[:8]


@pytest.fixture
def calls(monkeypatch):
    """How often anchors are made, and the shape of each map."""
    counted = Counter()

    def count(module, name):
        real = getattr(module, name)

        def counting(*arguments, **named):
            counted[name] += 1
            return real(*arguments, **named)

        monkeypatch.setattr(module, name, counting)

    count(trial, "anchor_maps")
    count(maps, "cuts_of")
    count(maps, "isolations_of")
    return counted


@pytest.mark.parametrize("make", [boundary_study, isolating_study])
def test_anchors_and_shapes_are_worked_out_once(calls, make):
    study = make(LAYERS)
    for metric in METRICS:
        boundary_curve(study, metric)
        sensitivity_of(study, metric)
        tradeoff(study, metric)
    trials_table(study)
    distinct = len({found for entry in study.trials for found in (entry.requested, entry.applied) if found})
    assert calls["anchor_maps"] == 1
    # a map's title asks for its shape by itself
    assert calls["cuts_of"] <= 2 * distinct
    assert calls["isolations_of"] <= 2 * distinct


@pytest.mark.parametrize("make", [boundary_study, isolating_study])
def test_shapes_are_those_of_each_map_by_itself(make):
    study, shapes = make(LAYERS), MapShapes(LAYERS)
    for entry in study.trials:
        for _ in range(2):
            assert shapes.cuts_of(entry.requested) == cuts_of(entry.requested, LAYERS)
            assert shapes.ends_of(entry.requested) == ends_of(entry.requested, LAYERS)
            assert shapes.isolations_of(entry.requested) == isolations_of(entry.requested, LAYERS)
            assert shapes.map_title(entry.requested) == map_title(entry.requested, LAYERS)


def test_anchors_are_the_first_scored_trials_of_their_maps():
    study = boundary_study(LAYERS)
    assert anchor_trial(study, Precision.FP32) is study.trials[0]
    assert [int8_share(study, anchor_trial(study, precision)) for precision in Precision] == [0.0, 0.0, 1.0]

"""Strategy `guided` with measured milliseconds instead of multiply-accumulates."""

from dataclasses import replace
from itertools import combinations

import pytest
from guided_problems import Problem, chain, int8_in, scored, searched
from latency_tables import measured, write_table

from qsens.core.errors import SpecError
from qsens.core.precision import Precision, PrecisionMap
from qsens.search.guided.strategy import Guided

LAYERS = chain([150, 200, 300, 400, 500, 600])
OWN = [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]


def own(chosen) -> float:
    return float(sum(OWN[place] for place in chosen))


@pytest.fixture
def latency_file(tmp_path):
    """Writes a file with these milliseconds by layer for FP32 and INT8 everywhere."""

    def write(floats, int8, **shared):
        entries = [
            replace(measured(name, PrecisionMap(precision), LAYERS, sum(times)), layers=rows(times, **shared))
            for name, precision, times in (("FP32", Precision.FP32, floats), ("INT8", Precision.INT8, int8))
        ]
        return write_table(tmp_path / "latency.json", entries, LAYERS)

    return write


def rows(times, engine_layers=None):
    names = engine_layers or [layer.name for layer in LAYERS]
    return tuple(
        {"layer": layer.name, "node": layer.node, "engine_layer": name, "expected": "int8", "actual": "int8"}
        | {"ms": ms}
        for layer, name, ms in zip(LAYERS, names, times, strict=True)
    )


def test_milliseconds_decide_instead_of_multiply_accumulates(latency_file):
    # Layers 1 and 2 save 5 ms each, for 5 of damage; layer 5, the largest, saves nothing.
    path = latency_file([2, 8, 8, 2, 2, 4], [1, 3, 3, 1, 1, 4])
    problem = Problem(LAYERS, own)
    trials = searched(Guided(budget="5.0", latency=str(path)), problem)
    assert {1, 2} in [int8_in(LAYERS, trial.requested) for trial in scored(trials)]
    for trial in scored(trials[3:]):
        assert trial.requested["conv5"] is Precision.FP16


def test_a_layer_that_gets_slower_saves_nothing(latency_file):
    path = latency_file([2, 2, 2, 2, 2, 2], [1, 1, 1, 1, 1, 5])
    saved = Guided(latency=str(path)).times.saved_ms
    assert dict(saved) == {f"conv{place}": 1.0 if place < 5 else 0.0 for place in range(6)}


def test_layers_that_run_as_one_share_its_time(latency_file):
    names = ["one", "one", "two", "two", "two", "six"]
    path = latency_file([6, 6, 9, 9, 9, 4], [2, 2, 3, 3, 3, 1], engine_layers=names)
    assert list(Guided(latency=str(path)).times.saved_ms.values()) == [2.0, 2.0, 2.0, 2.0, 2.0, 3.0]


def test_a_file_without_times_of_layers_is_refused(latency_file):
    path = latency_file([1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1])
    text = path.read_text().replace('"ms": 1', '"ms": null')
    path.write_text(text)
    with pytest.raises(SpecError, match="no time for the layer 'conv0' in") as caught:
        Guided(latency=str(path))
    assert "leave the file out" in caught.value.hint


def test_a_file_without_a_map_in_float_is_refused(tmp_path):
    entries = [measured("INT8", PrecisionMap(Precision.INT8), LAYERS, 1.0)]
    with pytest.raises(SpecError, match="one without") as caught:
        Guided(latency=str(write_table(tmp_path / "latency.json", entries, LAYERS)))
    assert "--maps anchors" in caught.value.hint


def test_a_file_of_another_generator_is_refused(latency_file):
    path = latency_file([2] * 6, [1] * 6)
    layers = (*LAYERS[:-1], replace(LAYERS[-1], name="other"))
    with pytest.raises(SpecError, match="'other'") as caught:
        searched(Guided(budget="5.0", latency=str(path)), Problem(layers, own))
    assert "qsens bench" in caught.value.hint


def test_what_int8_saves_is_counted_from_fp16_where_that_was_measured(tmp_path):
    times = {Precision.FP32: [4.0] * 6, Precision.FP16: [2.0] * 6, Precision.INT8: [1.5] * 6}
    entries = [
        replace(measured(name, PrecisionMap(name), LAYERS, 1.0), layers=rows(ms))
        for name, ms in times.items()
    ]
    path = write_table(tmp_path / "latency.json", entries, LAYERS)
    assert set(Guided(latency=str(path)).times.saved_ms.values()) == {0.5}


def test_a_limit_in_milliseconds_is_kept_with_the_least_damage(latency_file):
    # 12 ms in float; layers 1 and 2 save 3 each and harm most, the others save 1 each.
    path = latency_file([2, 4, 4, 2, 2, 2], [1, 1, 1, 1, 1, 1])
    problem = Problem(LAYERS, own)
    trials = searched(Guided(latency=str(path), limit_ms=16 - 4.0), problem)
    saved = [1.0, 3.0, 3.0, 1.0, 1.0, 1.0]
    enough = [
        int8_in(LAYERS, trial.requested)
        for trial in scored(trials)
        if sum(saved[place] for place in int8_in(LAYERS, trial.requested)) >= 4.0
    ]
    every = (frozenset(chosen) for count in range(7) for chosen in combinations(range(6), count))
    least = min(own(chosen) for chosen in every if sum(saved[place] for place in chosen) >= 4.0)
    assert min(own(chosen) for chosen in enough) == pytest.approx(least)


def test_a_limit_that_int8_everywhere_does_not_keep_is_said(latency_file):
    path = latency_file([2, 4, 4, 2, 2, 2], [1, 1, 1, 1, 1, 1])
    strategy = Guided(latency=str(path), limit_ms=5.0)
    trials = searched(strategy, Problem(LAYERS, own))
    told = [decision.text for decision in strategy.explain_search(LAYERS, trials)]
    assert "Even INT8 everywhere is expected to take 6 ms, more than 5" in told


def test_a_limit_in_milliseconds_needs_a_file(latency_file):
    with pytest.raises(SpecError, match="a limit of 4 ms needs the times of layers"):
        Guided(limit_ms=4)
    path = latency_file([2] * 6, [1] * 6)
    with pytest.raises(SpecError, match="excludes least_saving"):
        Guided(limit_ms=4, least_saving=0.5, latency=str(path))

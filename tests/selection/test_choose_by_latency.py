"""Choosing by measured time, on tables made up by hand."""

import pytest
from latency_tables import measured, write_table

from qsens.core.errors import BudgetError, SpecError
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Score, Study, Trial
from qsens.selection.budget import Budget
from qsens.selection.choose_by_latency import best_within_time, fastest_within, latency_front
from qsens.selection.timings import check_table, read_latency_table, tables_of_run, timings_of
from qsens.testing import example_layers

FP32, FP16, INT8 = Precision
LAYERS = example_layers(4)
NAMES = [layer.name for layer in LAYERS]
MAPS = {
    "FP32": PrecisionMap(FP32),
    "FP16": PrecisionMap(FP16),
    "INT8": PrecisionMap(INT8),
    "first": PrecisionMap(FP16, ((NAMES[0], INT8),)),
    "last": PrecisionMap(FP16, ((NAMES[3], INT8),)),
    "three": PrecisionMap(INT8, ((NAMES[3], FP16),)),
}
FIDS = {"FP32": 10.0, "FP16": 10.01, "first": 10.5, "last": 11.0, "three": 11.5, "INT8": 20.0}


def trial(number, name, value, metric="fid[lite0]"):
    scores = (
        Score(metric, value, 100, "real", lower_is_better=True),
        Score("fid-fp32[lite0]", abs(value - 10.0), 100, "fp32", lower_is_better=True),
    )
    return Trial(number, MAPS[name], MAPS[name], Outcome.SCORED, scores)


def study(fids=FIDS):
    return Study(
        "spec", LAYERS, tuple(trial(place, name, value) for place, (name, value) in enumerate(fids.items()))
    )


@pytest.fixture
def timings(tmp_path):
    def timings(of=None, batch=None, **ms):
        """Times by name; a pair is (median, half width)."""
        entries = [
            measured(name, MAPS[name], LAYERS, *(time[:1] if isinstance(time, tuple) else (time,)),
                     half_width=time[1] if isinstance(time, tuple) else 0.0,
                     size={"FP32": 400, "FP16": 200}.get(name, 100))
            for name, time in ms.items()
        ]  # fmt: skip
        table = read_latency_table(write_table(tmp_path / "table.json", entries, LAYERS))
        return timings_of(of or study(), table, batch)

    return timings


def name_of(selection):
    return next(name for name, shape in MAPS.items() if shape == selection.precision_map)


def fastest(timings, budget="2", **options):
    return fastest_within(options.pop("of", study()), timings, budget=Budget.parse(budget), **options)


def test_the_fastest_map_within_the_budget_wins_whatever_its_share(timings):
    times = timings(FP32=8.0, FP16=6.0, first=3.0, three=4.0, INT8=1.0)
    selection = fastest(times)
    assert name_of(selection) == "first"
    assert selection.latency.does_int8_pay is True
    assert selection.latency.measured.ms == 3.0
    assert selection.latency.timings.speed_up(selection.latency.measured) == pytest.approx(8 / 3)


def test_maps_that_were_not_measured_are_left_out_and_counted(timings):
    selection = fastest(timings(FP32=8.0, three=4.0))
    assert name_of(selection) == "three"
    assert selection.latency.left_out == 4


def test_int8_that_gains_no_time_does_not_pay_and_fp16_ships(timings):
    selection = fastest(timings(FP32=(8.0, 0.1), FP16=(4.0, 0.06), first=(3.95, 0.05), three=(5.0, 0.1)))
    assert name_of(selection) == "FP16"
    assert selection.latency.does_int8_pay is False
    assert selection.latency.fastest_int8.requested == MAPS["first"]


def test_int8_that_is_faster_beyond_the_spread_pays(timings):
    selection = fastest(timings(FP32=(8.0, 0.1), FP16=(4.0, 0.05), first=(3.8, 0.1)))
    assert name_of(selection) == "first"
    assert name_of(fastest(timings(FP16=(4.0, 0.05), first=(3.8, 0.2)))) == "FP16"


def test_a_gain_that_two_builds_of_one_map_could_show_does_not_count(timings):
    assert name_of(fastest(timings(FP16=4.0, first=3.9))) == "FP16"
    assert name_of(fastest(timings(FP16=4.0, first=3.87))) == "first"


def test_where_fp16_is_as_slow_and_as_large_as_fp32_the_better_score_ships(tmp_path):
    entries = [measured(name, MAPS[name], LAYERS, 3.0, size=400) for name in ("FP16", "FP32", "three")]
    times = timings_of(study(), read_latency_table(write_table(tmp_path / "t.json", entries, LAYERS)))
    assert name_of(fastest(times)) == "FP32"


def test_of_equally_fast_float_maps_the_smaller_ships(timings):
    assert name_of(fastest(timings(FP32=3.0, FP16=3.0, three=9.0))) == "FP16"


def test_of_equally_fast_int8_maps_the_better_score_wins(timings):
    times = timings(FP32=8.0, FP16=7.0, three=(3.0, 0.1), first=(3.1, 0.1), last=(3.05, 0.1))
    assert name_of(fastest(times)) == "first"


def test_only_quality_kept_int8_out_says_nothing_about_its_speed(timings):
    selection = fastest(timings(FP32=8.0, FP16=6.0, INT8=1.0))
    assert name_of(selection) == "FP16"
    assert selection.latency.does_int8_pay is None


def test_nothing_within_the_budget_names_the_nearest(timings):
    with pytest.raises(BudgetError, match="nearest is trial 5"):
        fastest(timings(INT8=1.0))


def test_a_table_without_any_of_the_maps_is_an_error(timings, tmp_path):
    other = read_latency_table(
        write_table(tmp_path / "t.json", [measured("x", MAPS["last"], LAYERS, 1.0)], LAYERS)
    )
    fids = {name: value for name, value in FIDS.items() if name != "last"}
    with pytest.raises(SpecError, match="no scored map of this run was measured on Test Board"):
        fastest(timings_of(study(fids), other), of=study(fids))


def test_the_guard_holds_for_measured_maps_too(timings):
    times = timings(FP32=8.0, FP16=6.0, first=5.0, three=1.0)
    assert name_of(fastest(times, guard=Budget(0.6))) == "first"


def test_the_best_score_within_a_time_wins(timings):
    times = timings(FP32=8.0, FP16=6.0, first=5.0, three=4.0, INT8=1.0)
    chosen = {limit: name_of(best_within_time(study(), times, limit_ms=limit)) for limit in (9, 6, 5.5, 4, 2)}
    assert chosen == {9: "FP32", 6: "FP16", 5.5: "first", 4: "three", 2: "INT8"}


def test_a_time_that_no_map_meets_names_the_fastest(timings):
    with pytest.raises(
        BudgetError, match=r"no measured map runs in 0\.5 ms .* trial 5 \(100% INT8\) with 1 ms"
    ):
        best_within_time(study(), timings(FP32=8.0, INT8=1.0), limit_ms=0.5)


def test_a_budget_holds_within_a_time_too(timings):
    with pytest.raises(BudgetError, match="nearest is trial 5"):
        best_within_time(study(), timings(FP32=8.0, INT8=1.0), limit_ms=2, budget=Budget(2.0))


def test_a_score_better_than_fp32s_is_no_gain(timings):
    """Noise that lowers the distance to real images must not win over a map that damages less."""
    fids = {"FP32": 10.0, "FP16": 10.0, "INT8": 4.0, "first": 9.9}
    times = timings(of=study(fids), first=3.0, INT8=1.0)
    assert name_of(best_within_time(study(fids), times, limit_ms=5)) == "first"


def test_psnr_ranks_within_a_time(timings):
    def entry(number, name, value):
        score = Score("psnr", value, 100, "fp32", lower_is_better=False)
        return Trial(number, MAPS[name], MAPS[name], Outcome.SCORED, (score,))

    of = Study("spec", LAYERS, (entry(0, "FP32", 100.0), entry(1, "INT8", 30.0), entry(2, "first", 40.0)))
    times = timings(of=of, FP32=8.0, INT8=1.0, first=1.5)
    assert name_of(best_within_time(of, times, limit_ms=2)) == "first"
    assert best_within_time(of, times, limit_ms=2).excess < 0


def test_the_front_holds_maps_that_none_beats_in_time_and_score(timings):
    times = timings(FP32=8.0, FP16=6.0, first=7.0, three=4.0, last=4.5, INT8=5.0)
    front = latency_front(study(), times, "fid[lite0]")
    assert [entry.number for entry in front] == [4, 3, 1, 0]


def test_maps_are_joined_by_what_was_built_in_any_spelling(tmp_path):
    """The same map written as a default with overrides, and built differently from the request."""
    spelled = PrecisionMap(FP16, tuple((name, INT8) for name in NAMES[:3]))
    assert spelled != MAPS["three"]
    asked = Trial(0, MAPS["INT8"], MAPS["three"], Outcome.SCORED, trial(0, "three", 1.0).scores)
    entries = [measured("a", spelled, LAYERS, 2.0), measured("b", MAPS["INT8"], LAYERS, 1.0)]
    table = read_latency_table(write_table(tmp_path / "t.json", entries, LAYERS))
    assert timings_of(Study("s", LAYERS, (asked,)), table).by_trial[0].ms == 2.0


def test_the_smallest_batch_is_taken_and_a_missing_one_is_an_error(tmp_path):
    entries = [measured("FP32", MAPS["FP32"], LAYERS, float(batch), batch=batch) for batch in (16, 4)]
    table = read_latency_table(write_table(tmp_path / "t.json", entries, LAYERS))
    assert timings_of(study(), table).batch == 4
    assert timings_of(study(), table, 16).fp32.ms == 16.0
    with pytest.raises(SpecError) as caught:
        timings_of(study(), table, 2)
    assert caught.value.hint == "it holds batch 4, 16"


def test_a_table_of_another_graph_is_refused_with_both_named(tmp_path):
    table = read_latency_table(write_table(tmp_path / "t.json", [], LAYERS, graph="theirs"))
    check_table(table, study(), "theirs")
    check_table(table, study(), None)
    with pytest.raises(SpecError, match="graph theirs, the run was scored on graph ours"):
        check_table(table, study(), "ours")


def test_a_table_of_other_layers_is_refused_with_one_named(tmp_path):
    table = read_latency_table(write_table(tmp_path / "t.json", [], LAYERS[:3]))
    with pytest.raises(SpecError, match=r"has 3 layers, the run 4; 'block1\.conv1'"):
        check_table(table, study(), None)


def test_a_map_of_a_layer_that_the_file_does_not_list_is_refused(tmp_path):
    entry = measured("x", MAPS["last"], LAYERS, 1.0)
    with pytest.raises(SpecError, match="not among 'layers'"):
        read_latency_table(write_table(tmp_path / "t.json", [entry], LAYERS[:3]))


def test_files_of_the_run_and_given_ones_are_read_once(tmp_path):
    own = write_table(tmp_path / "latency" / "a.json", [measured("FP32", MAPS["FP32"], LAYERS, 1.0)], LAYERS)
    other = write_table(tmp_path / "b.json", [], LAYERS, device={"name": "Other"})
    found = tables_of_run(tmp_path, study(), "abc", [own, other])
    assert [table.device_name for table in found] == ["Test Board", "Other"]


def test_an_interval_that_reaches_the_other_counts_as_equally_fast(timings):
    times = timings(FP32=(4.0, 0.5), FP16=(5.0, 0.4))
    assert times.by_trial[0].half_width_ms == pytest.approx(0.5)
    assert not times.by_trial[0].is_as_fast_as(times.by_trial[1])
    assert timings(FP32=(4.0, 0.6), FP16=(5.0, 0.4)).by_trial[0].is_as_fast_as(times.by_trial[1])

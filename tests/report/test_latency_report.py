"""Measured times in the report: figure data, tables, findings and the whole page."""

import csv
from dataclasses import replace

import pytest
from latency_tables import measured, write_table
from report_folders import write_run
from report_studies import anchors, map_of, style_layers, trial

from qsens.core.errors import SpecError
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Study
from qsens.report.figures.all_figures import figures_of
from qsens.report.figures.tradeoff import tradeoff
from qsens.report.findings import findings_of
from qsens.report.page_tables import score_table, trial_table
from qsens.report.tables import trials_table
from qsens.report.write import write_report
from qsens.selection.timings import read_latency_table, timings_of

LAYERS = style_layers()[:6]
UNIFORM = {precision.upper(): PrecisionMap(precision) for precision in Precision}
HALF = map_of(LAYERS, range(3))
FID = "fid[lite0]"


def study():
    return Study(
        "spec", LAYERS, (*anchors(LAYERS), trial(3, LAYERS, HALF), trial(4, LAYERS, map_of(LAYERS, [5])))
    )


@pytest.fixture
def timings(tmp_path):
    def timings(half_width=0.02, **times):
        maps = {**UNIFORM, "half": HALF}
        entries = [
            measured(name, maps[name], LAYERS, ms, half_width=half_width, mismatches=mismatches)
            for name, (ms, mismatches) in {
                name: time if isinstance(time, tuple) else (time, ()) for name, time in times.items()
            }.items()
        ]
        return timings_of(study(), read_latency_table(write_table(tmp_path / "board.json", entries, LAYERS)))

    return timings


def titles(found):
    return {finding.title: finding for finding in found}


def test_the_front_of_times_is_what_nothing_beats_and_unmeasured_maps_are_left_out(timings):
    data = tradeoff(study(), FID, 3, timings(FP32=8.0, FP16=5.0, half=6.0, INT8=2.0))
    assert [point.trial for point in data.points] == [0, 1, 2, 3]
    assert [point.ms for point in data.front] == [2.0, 5.0]
    assert data.chosen.ms == 6.0
    assert data.chosen.ms_half_width == pytest.approx(0.02)


def test_one_measured_map_is_no_trade_off(timings):
    assert tradeoff(study(), FID, None, timings(FP32=8.0)) is None


def test_each_table_gets_a_figure_that_says_where_it_was_measured(timings):
    figures = figures_of(study(), timings=[timings(FP32=8.0, FP16=5.0, INT8=2.0)])
    found = next(entry for entry in figures if entry.name == "latency-test-board-openvino-1-0-batch-1")
    assert "Test Board, openvino 1.0, batch 1" in found.heading
    assert "board.json" in found.caption
    assert [axes.get_xlabel() for axes in found.figure.axes] == ["ms, batch 1 (less is better)"] * 3
    assert not any(entry.name.startswith("latency") for entry in figures_of(study()))


def test_tables_have_a_column_of_times_only_where_there_are_any(timings):
    times = [timings(FP32=8.0, half=4.0)]
    for table in (trial_table(study(), None, times), score_table(study(), None, times)):
        assert "ms, Test Board, openvino 1.0, batch 1" in table
        assert "8.000 ± 0.020" in table
    assert "Test Board" not in trial_table(study(), None)
    frame = trials_table(study(), times)
    column = frame["ms[Test Board, openvino 1.0, batch 1]"]
    assert column[0] == 8.0
    assert column.isna().tolist() == [False, True, True, False, True]


def test_the_times_of_the_references_and_the_chosen_map_are_said(timings):
    of = study()
    found = titles(findings_of(of, of.trials[3], None, [timings(FP32=8.0, INT8=2.0, half=4.0)]))
    text = found["Measured on Test Board, openvino 1.0, batch 1"].text
    assert "FP32 8.000 ms, all INT8 2.000 ms (4.00x), the chosen map 4.000 ms (2.00x)" in text
    assert "3 of 5 scored maps were measured" in text
    assert not any("does not pay" in title or "no faster" in title for title in found)


def test_int8_that_gains_no_time_is_a_warning(timings, tmp_path):
    of = study()
    found = titles(findings_of(of, of.trials[3], None, [timings(FP32=8.0, FP16=2.0, INT8=2.01, half=3.0)]))
    warning = found["INT8 does not pay on Test Board"]
    assert warning.severity == "warning"
    assert "ship FP16" in warning.text
    text = found["The chosen map is no faster than float"].text
    assert "3.000 ms" in text
    assert f"--latency {tmp_path.name}/board.json." in text
    assert str(tmp_path.parent) not in text


def test_where_fp16_gains_neither_time_nor_size_fp32_is_what_ships(timings):
    """A processor without FP16: both are the same engine."""
    found = titles(findings_of(study(), None, None, [timings(FP32=2.02, FP16=2.0, INT8=3.0)]))
    assert "ship FP32" in found["INT8 does not pay on Test Board"].text


def test_only_the_smallest_batch_has_findings(tmp_path):
    entries = [measured("FP32", UNIFORM["FP32"], LAYERS, 1.0, batch=batch) for batch in (1, 16)]
    table = read_latency_table(write_table(tmp_path / "t.json", entries, LAYERS))
    found = findings_of(study(), None, None, [timings_of(study(), table, batch) for batch in (1, 16)])
    assert [finding.title for finding in found if "Measured" in finding.title] == [
        "Measured on Test Board, openvino 1.0, batch 1"
    ]


def test_whether_int8_pays_is_not_said_where_only_one_kind_was_measured(timings):
    found = titles(findings_of(study(), None, None, [timings(INT8=2.0, half=3.0)]))
    assert not any("does not pay" in title for title in found)


def test_engines_that_run_something_else_are_a_warning(timings):
    found = titles(findings_of(study(), None, None, [timings(FP32=8.0, INT8=(2.0, ("encode_1.conv0",)))]))
    assert "encode_1.conv0" in found["Measured engines are not what was asked for"].text


def test_a_table_of_other_maps_is_a_warning(timings, tmp_path):
    entry = measured("x", map_of(LAYERS, [1]), LAYERS, 1.0)
    table = read_latency_table(write_table(tmp_path / "t.json", [entry], LAYERS))
    found = titles(findings_of(study(), None, None, [timings_of(study(), table)]))
    assert "Measured times of other maps" in found


def latency_figures(study, **options):
    """Of one score, a panel each."""
    of_one = (replace(entry, scores=entry.scores[:1]) for entry in study.trials)
    found = figures_of(replace(study, trials=tuple(of_one)), **options)
    return tuple(entry for entry in found if entry.name.startswith("latency"))


def test_the_page_shows_files_of_the_folder_and_given_ones(tmp_path, monkeypatch):
    monkeypatch.setattr("qsens.report.write.figures_of", latency_figures)
    run = write_run(tmp_path / "run", Study("spec", LAYERS, tuple(anchors(LAYERS))))
    entries = [
        measured(name, shape, LAYERS, ms)
        for (name, shape), ms in zip(UNIFORM.items(), (8, 6, 2), strict=True)
    ]
    graph = {"graph": "any"}  # the made-up run does not know its graph
    write_table(run / "latency" / "own.json", entries, LAYERS, **graph)
    other = write_table(tmp_path / "far.json", entries, LAYERS, device={"name": "Far <b>Board"}, **graph)
    page = write_report(run, latency=[other]).read_text()
    assert "Test Board, openvino 1.0, batch 1" in page
    assert "Far &lt;b&gt;Board" in page
    assert (run / "figures" / "latency-test-board-openvino-1-0-batch-1.png").exists()
    with (run / "trials.csv").open() as file:
        assert "ms[Test Board, openvino 1.0, batch 1]" in next(csv.reader(file))


def test_a_file_of_another_generator_stops_the_report_with_both_named(tmp_path):
    run = write_run(tmp_path / "run", Study("spec", LAYERS, tuple(anchors(LAYERS))))
    other = write_table(tmp_path / "far.json", [], LAYERS[:2])
    with pytest.raises(SpecError, match="has 2 layers, the run 6"):
        write_report(run, latency=[other])

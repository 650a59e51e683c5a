from dataclasses import replace

import pytest
from paper_runs import student_run, swept_run, teacher_run

from qsens.core.precision import Precision
from qsens.core.trial import Score
from qsens.search.enumerations import Ends
from qsens.zoo.paper.ablation import COMMANDS, TRAININGS
from qsens.zoo.paper.cells import Cell, Column, PaperTable, Row, metric_title, score_cell
from qsens.zoo.paper.published import published
from qsens.zoo.paper.table1 import NO_TEACHER, table1
from qsens.zoo.paper.table2 import NOT_GIVEN, quality_table, sizes_table


def cell(table, labels, key):
    row = next(row for row in table.rows if row.labels[: len(labels)] == labels)
    return row.cells[[column.key for column in table.columns].index(key)]


def test_the_students_mix_is_boundary_21_of_23():
    run = student_run()
    mixed = run.preset_trial("paper-student").requested
    in_int8 = [layer.name for layer in run.study.layers if mixed[layer.name] is Precision.INT8]
    assert in_int8 == [layer.name for layer in run.study.layers][:21]


def test_both_readings_of_the_teachers_mix_are_among_the_ends():
    run = teacher_run()
    a, b = (run.preset_trial(f"paper-teacher-{reading}") for reading in "ab")
    blocks = {layer.name: layer.block for layer in run.study.layers}
    for trial, kept in ((a, {"FE0", "FE1", "FD6", "OUT"}), (b, {"FE0", "FE1", "FD5", "FD6", "OUT"})):
        assert {blocks[name] for name, precision in trial.requested.assignment(blocks).items()
                if precision is Precision.FP16} == kept  # fmt: skip


def test_a_run_without_the_map_has_no_mix():
    run = swept_run("student", strategy=Ends(by="block", first=0, last=0))
    assert run.preset_trial("paper-student") is None
    assert run.uniform_trial(Precision.INT8) is not None


def test_table_1_without_a_teacher_says_so_and_how_to_train_one():
    table = table1(student_run(), None)
    shown = [line for line in table.lines() if line[0] == "teacher"]
    assert len(shown) == 5
    assert all(NO_TEACHER in line for line in shown)
    assert any("qsens zoo train teacher" in note for note in table.notes)
    teacher = [row for row in table.rows if row.labels[0] == "teacher"]
    assert all(entry.value is None for row in teacher for entry in row.cells)


def test_table_1_puts_the_papers_value_beside_ours():
    table = table1(student_run(), teacher_run())
    assert cell(table, ("student", "FP32"), "fid").published.text == "5.30"
    assert cell(table, ("student", "MIX, output block FP16"), "fid").published.text == "5.06"
    assert cell(table, ("student", "INT8"), "fid").published_text == "not known to us"
    assert cell(table, ("teacher", "FP32"), "lse-c").published.text == "7.78"
    assert cell(table, ("student", "INT8"), "fid").value == 50 + 23
    assert cell(table, ("student", "MIX, output block FP16"), "fid").value == 50 + 21
    assert len(table.header()) == len(table.lines()[0]) == 2 + 7 + 3 + 3


def test_table_1_names_the_extractor_in_the_heading():
    assert "FID[lite0], ours" in table1(student_run(), None).header()


def test_intervals_are_those_of_the_difference_to_fp32():
    run = student_run()
    shown = score_cell(run.study, run.uniform_trial(Precision.INT8), "fid")
    assert shown.half_width == pytest.approx(1.959964 * 0.25)
    assert shown.text == "73.00 ± 0.49"
    assert shown.images == 30


def test_what_was_not_measured_is_a_dash():
    run = student_run()
    assert score_cell(run.study, run.uniform_trial(Precision.FP16), "psnr") == Cell()
    assert score_cell(run.study, None, "fid", published("teacher", "fid")).published.value == 3.70


def test_table_1_says_why_lse_is_missing():
    assert any("clips too short" in note for note in table1(student_run(note="clips too short"), None).notes)
    assert not any("LSE" in note for note in table1(student_run(note=None), None).notes)


def test_weights_and_shares():
    table = table1(student_run(), None)
    assert cell(table, ("student", "FP32"), "weights").value == pytest.approx(23 * 1000 * 4 / 1e6)
    assert cell(table, ("student", "INT8"), "weights").value == pytest.approx(23 * 1000 / 1e6)
    assert cell(table, ("student", "MIX, output block FP16"), "share").value == pytest.approx(21 / 23)


def test_sizes_agree_with_the_paper():
    table = sizes_table()
    for row in table.rows:
        for entry in row.cells[:2]:
            assert entry.value == pytest.approx(entry.published.value, rel=0.04)
    assert cell(table, ("student",), "macs").text == "0.2152G (28.8x)"


def test_quality_has_a_row_a_training_and_names_the_commands_that_fill_it():
    table = quality_table({}, None)
    assert [row.labels[0] for row in table.rows] == [training.name for training in TRAININGS]
    assert all(row.cells[0].text == NOT_GIVEN for row in table.rows)
    assert all(command in table.notes[0] for command in COMMANDS)
    assert any("4.17" in note and "94.6 / 23.1" in note for note in table.notes)


def test_quality_shows_what_was_scored_and_the_student_of_the_run():
    uniform = swept_run("student", strategy=Ends(by="block", first=0, last=0))
    table = quality_table({"student-bare-plain-start": uniform}, student_run())
    assert cell(table, ("student-bare-plain-start",), "fid").value == 50.0
    assert cell(table, ("student-bare-plain-start",), "fid").published is None
    assert table.rows[-1].labels[:2] == ("drawn (this run's)", "student")


def test_records_carry_numbers_and_sources():
    known = published("teacher", "fid")
    column = Column("fid", "FID", is_published=True)
    row = Row(("teacher",), (Cell("3.9", 3.9123, 0.1, known, 30),))
    table = PaperTable("t", "T", ("generator",), (column,), (row,), "caption")
    record = table.records()[0]
    assert (record["ours"], record["paper"], record["paper source"]) == (3.9123, "3.70", known.source)
    assert table.header() == ("generator", "FID, ours", "paper")


def test_published_values_stand_only_beside_the_papers_own_architecture():
    table = table1(swept_run("student-residual"), None)
    student = [row for row in table.rows if row.labels[0] == "student"]
    assert all(entry.published is None for row in student for entry in row.cells)
    assert any("not that of the paper's student" in note for note in table.notes)


def test_notes_name_generator_frames_ceiling_and_warnings():
    run = student_run()
    noted = replace(run, mouth_ceiling=0.9871, warnings=("too few images",))
    notes = table1(noted, None).notes
    assert "The student: drawn, student, on 30 frames." in notes
    assert any("0.987" in note for note in notes)
    assert "Too few images." in notes


def test_lse_is_written_as_the_paper_writes_it_with_the_truth_beside_it():
    assert metric_title([student_run().study], "lse-d") == "LSE-D"
    score = Score("lse-d[truth 6.35]", 7.0, 30, "a", lower_is_better=True)
    study = student_run().study
    with_lse = replace(study, trials=(replace(study.trials[0], scores=(score,)),))
    assert metric_title([with_lse], "lse-d") == "LSE-D[truth 6.35]"

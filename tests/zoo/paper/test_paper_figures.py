import numpy as np
from paper_runs import keep_pictures, student_run, teacher_run

from qsens.core.precision import Precision
from qsens.zoo.paper.figure3 import boundary_curves, boundary_records, figure3, published_anchors
from qsens.zoo.paper.figure4 import figure4, grid_records, image_grid, shown_indices


def numbers(run):
    return [
        run.uniform_trial(Precision.FP32).number,
        run.uniform_trial(Precision.INT8).number,
        run.preset_trial("paper-student").number,
    ]


def test_the_boundary_curve_has_every_boundary_in_both_directions():
    curve = boundary_curves(student_run())[0]
    assert curve.metric == "fid[lite0]"
    for line in curve.lines:
        assert [point.boundary for point in line.points] == list(range(24))
    assert curve.chosen.boundary == 21


def test_the_papers_value_stands_only_at_its_mixed_map():
    records = list(boundary_records(student_run()))
    assert [record["boundary"] for record in records if record["paper"]] == [21]
    assert len(records) == 2 * 24


def test_anchors_that_the_paper_does_not_state_are_said_to_be_unknown():
    assert published_anchors() == (
        "The paper's FID on LRS3: FP32 5.30, FP16 not known to us, MIX 5.06, INT8 not known to us."
    )


def test_the_figure_names_the_mixed_map():
    texts = [text.get_text() for text in figure3(student_run()).legends[0].get_texts()]
    assert "MIX of the paper (output block FP16)" in texts


def test_pictures_of_the_grid_belong_to_the_samples_that_a_sweep_keeps(tmp_path):
    run = student_run(tmp_path / "sweep-student")
    keep_pictures(run, numbers(run))
    grid = image_grid(run, None)
    assert shown_indices(30) == (0, 6, 12, 17, 23, 29)
    assert [row.split("/")[0] for row in grid.rows] == ["s0", "s1", "s2", "s3", "s4", "s5"]
    assert [column.title for column in grid.columns] == [
        "reference frame", "ground truth", "student FP32", "student INT8", "student MIX",
    ]  # fmt: skip
    reference, truth = grid.columns[0].images, grid.columns[1].images
    assert (reference[:, 2] == 255).all()
    assert (reference[:, :2] == 0).all()
    assert truth[:, 0, 0, 0].tolist() == [10 + index for index in shown_indices(30)]


def test_psnr_and_errors_are_those_of_the_pictures(tmp_path):
    run = student_run(tmp_path / "sweep-student")
    keep_pictures(run, numbers(run))
    grid = image_grid(run, None)
    fp32, int8 = grid.columns[2], grid.columns[3]
    step = (int8.images.astype(float) - fp32.images).mean(axis=(1, 2, 3))
    assert np.allclose(grid.errors[0].errors.mean(axis=(1, 2)), np.abs(step))
    truth = grid.columns[1].images.astype(float)
    expected = 10 * np.log10(255**2 / ((fp32.images - truth) ** 2).mean(axis=(1, 2, 3)))
    assert np.allclose(fp32.psnr_db, expected)
    assert len(grid_records(grid)) == 3 * 6


def test_a_teacher_has_a_column_only_over_the_same_samples(tmp_path):
    run, teacher = student_run(tmp_path / "sweep-student"), teacher_run(tmp_path / "sweep-teacher")
    keep_pictures(run, numbers(run))
    keep_pictures(teacher, [0])
    assert image_grid(run, teacher).columns[2].title == "teacher FP32"
    teacher.evaluation.digest = "other samples"
    assert "teacher FP32" not in [column.title for column in image_grid(run, teacher).columns]


def test_the_grid_has_a_row_a_sample_and_a_column_a_kind(tmp_path):
    run = student_run(tmp_path / "sweep-student")
    keep_pictures(run, numbers(run))
    figure = figure4(image_grid(run, None))
    panels = [axes for axes in figure.axes if axes.images]
    titled = [axes.get_title() for axes in panels if axes.get_title()]
    assert titled[:2] == ["reference frame", "ground truth"]
    assert titled[-2:] == ["error of INT8", "error of MIX"]
    assert len(panels) >= 6 * 7

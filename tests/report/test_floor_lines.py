"""The floor in figures: read from a run folder, drawn where it fits, told below."""

from dataclasses import replace

import numpy as np
import pytest
from report_folders import write_run
from report_studies import METRICS, boundary_study, style_layers

from qsens.report.figures.boundary import boundary_figure
from qsens.report.figures.boundary_curve import boundary_curve
from qsens.report.figures.tradeoff import tradeoff, tradeoff_figure
from qsens.run.evidence import Evidence, load_evidence, save_evidence
from qsens.run.floors import Floor, floors_of
from qsens.run.paths import RunPaths

LAYERS = style_layers()[:4]
STUDY = boundary_study(LAYERS)
FID, FID_FP32, PSNR = METRICS


@pytest.fixture
def run(tmp_path):
    folder = write_run(tmp_path / "run", STUDY)
    features = np.random.default_rng(0).standard_normal((600, 6)).astype(np.float32)
    evidence = RunPaths(folder).evidence
    save_evidence(evidence, 0, Evidence(features[:512], load_evidence(evidence, 0).influences))
    np.savez(evidence / "reference-features.npz", features=features, digest=np.array("d"))
    return folder


def test_floors_are_those_of_the_distances(run):
    floors = floors_of(run)
    assert set(floors) == {FID, FID_FP32}
    assert (floors[FID].label, floors[FID_FP32].label) == ("real against real", "FP32 against other inputs")
    # 512 outputs against 600 real images are as biased as 552 against 552.
    assert (floors[FID].images, floors[FID].measured_images) == (553, 300)
    assert (floors[FID_FP32].images, floors[FID_FP32].measured_images) == (512, 256)
    assert all(floor.is_extrapolated and 0.0 < floor.value < 0.5 for floor in floors.values())


def test_floors_are_computed_once_a_folder(run):
    floors = floors_of(run)
    evidence = RunPaths(run).evidence
    (evidence / "reference-features.npz").unlink()
    assert floors_of(run) == floors
    (evidence / "floors.json").write_text("{}")
    assert set(floors_of(run)) == {FID_FP32}


def test_a_run_without_kept_features_has_no_floor(tmp_path):
    assert floors_of(write_run(tmp_path / "run", STUDY)) == {}


def label_texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def notes(figure):
    return " ".join(text.get_text().replace("\n", " ") for text in figure.texts)


def test_a_floor_within_the_axis_is_drawn_and_told():
    value = 1.5 * STUDY.trials[0].score(FID).value
    floor = Floor("real against real", value, 500, 250)
    curve, points = boundary_curve(STUDY, FID, None, floor), tradeoff(STUDY, FID, floor=floor)
    for figure in (boundary_figure([curve], LAYERS, "t"), tradeoff_figure([points], "t")):
        assert any(text.startswith("real against real") for text in label_texts(figure))
        assert "500 images a side (extrapolated from 250)" in notes(figure)


def test_a_floor_beyond_the_axis_is_told_only():
    floor = Floor("real against real", 1e-9, 500, 500)
    curve, points = boundary_curve(STUDY, FID, None, floor), tradeoff(STUDY, FID, floor=floor)
    for figure in (boundary_figure([curve], LAYERS, "t"), tradeoff_figure([points], "t")):
        assert not any(text.startswith("real against real") for text in label_texts(figure))
        assert "real against real, 1.00e-09 at 500 images a side." in notes(figure)


def test_a_metric_without_a_floor_says_nothing_of_one():
    curve = boundary_curve(STUDY, PSNR)
    assert curve.floor is None
    assert "Floor" not in notes(boundary_figure([curve, replace(curve)], LAYERS, "t"))

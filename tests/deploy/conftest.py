"""A tiny finished run, swept once, for the tests of what comes after a sweep."""

import shutil
from pathlib import Path

import onnx
import pytest
from lowered_models import residual_generator
from tiny_photos import write_photos

from qsens.api import run_sweep
from qsens.deploy.bundle import ExportOptions, export_bundle
from qsens.deploy.chosen_map import TARGETS, map_of_trial
from qsens.run.reopen import reopen_run

SWEEP = {
    "metrics": ["psnr"],
    "calibration_samples": 2,
    "evaluation_samples": 4,
    "batch_size": 4,
    "threads": 1,
    "range_method": "minmax",
    "strategy_options": {"by": "layer"},
}


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A project folder with `generator.onnx`, `photos` and `run`: five layers, one of them transposed."""
    project = tmp_path_factory.mktemp("project")
    onnx.save(residual_generator(), project / "generator.onnx")
    photos = write_photos(project / "photos")
    run_sweep(project / "generator.onnx", out=project / "run", calibration=str(photos), **SWEEP)
    return project


@pytest.fixture
def project(finished_run, tmp_path, monkeypatch):
    """A copy of it to damage, with a spec that names the copied files."""
    copy = Path(shutil.copytree(finished_run, tmp_path / "project"))
    spec = copy / "run" / "spec.toml"
    spec.write_text(spec.read_text().replace(finished_run.as_posix(), copy.as_posix()))
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture(scope="session")
def reopened(finished_run):
    return reopen_run(finished_run / "run")


@pytest.fixture(scope="session")
def ort_bundle(reopened, tmp_path_factory):
    """Trial 2, INT8 everywhere, exported for ONNX Runtime with batch 3 (for four golden samples)."""
    out = tmp_path_factory.mktemp("bundles") / "ort"
    options = ExportOptions(TARGETS["onnxruntime"], out, batch=3)
    return export_bundle(reopened, map_of_trial(reopened, 2), options)


@pytest.fixture
def bundle(ort_bundle, tmp_path):
    """The folder of a copy of it, to damage."""
    return Path(shutil.copytree(ort_bundle.folder, tmp_path / "bundle"))

"""Bundles of the tiny finished run."""

import shutil
from pathlib import Path

import pytest

from qsens.core.targets import target_named
from qsens.deploy.bundle import ExportOptions, export_bundle
from qsens.deploy.chosen_map import map_of_trial


@pytest.fixture(scope="session")
def ort_bundle(reopened, tmp_path_factory):
    """Trial 2, INT8 everywhere, exported for ONNX Runtime with batch 3 (for four golden samples)."""
    out = tmp_path_factory.mktemp("bundles") / "ort"
    options = ExportOptions(target_named("onnxruntime").target, out, batch=3, takes_back_to_float=True)
    return export_bundle(reopened, map_of_trial(reopened, 2), options)


@pytest.fixture
def bundle(ort_bundle, tmp_path):
    """The folder of a copy of it, to damage."""
    return Path(shutil.copytree(ort_bundle.folder, tmp_path / "bundle"))

"""Bundles of the tiny finished run."""

import shutil
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from qsens.core.targets import target_named
from qsens.deploy import bundle_script
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


@pytest.fixture
def script_here(monkeypatch, capsys):
    """Runs this version's script on a bundle in this process, where NumPy and the runtime are loaded."""

    def script_here(folder, *arguments):
        monkeypatch.setattr(bundle_script, "FOLDER", folder)
        monkeypatch.setattr(sys, "argv", ["verify.py", *map(str, arguments)])
        # It puts the bundle's code there; here qsens itself is loaded.
        monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
        try:
            code = bundle_script.main()
        except SystemExit as end:
            code = end.code
        return CompletedProcess(folder, code, *capsys.readouterr())

    return script_here

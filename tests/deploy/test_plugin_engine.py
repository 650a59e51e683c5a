"""An engine that another distribution brings: it exports, verifies, and its bundle checks itself."""

import json
import os
import subprocess
import sys

import pytest

from qsens.core.targets import target_named
from qsens.deploy.bundle import ExportOptions, export_bundle
from qsens.deploy.chosen_map import map_of_trial
from qsens.deploy.verify import checked_files, verify_engine

# A runtime of its own name, whose kernels are ONNX Runtime's.
LIBRARY = "from onnxruntime import *\n"
DEVICE = """
import tiny_kernels

from qsens.device.onnxruntime_runtime import FLAVOURS, OnnxRuntimeRuntime


class TinyKernels(OnnxRuntimeRuntime):
    runtime = "tiny_kernels"


def open_runtime(bundle):
    return TinyKernels(bundle.model_path)
"""
BACKEND = """
from dataclasses import replace
from pathlib import Path

from qsens.core.targets import ExtraFiles
from qsens.engines.onnxruntime import OnnxRuntimeBackend


def write_hints(folder, lowered, ranges, batch):
    (folder / "hints.json").write_text(f'{{"batch": {batch}}}')
    return ExtraFiles({"hints.json": "what the compiler of tiny kernels is told"})


class TinyBackend(OnnxRuntimeBackend):
    name = "tiny"
    targets = (
        replace(
            OnnxRuntimeBackend.targets[0],
            name="tiny",
            runtime="tiny_kernels",
            title="Tiny Kernels",
            opened_by="tiny_device",
            extra_files=write_hints,
        ),
    )
"""


@pytest.fixture
def tiny(install):
    modules = {"tiny_kernels": LIBRARY, "tiny_device": DEVICE, "tiny_backend": BACKEND}
    install("tiny", "backends", {"tiny": "tiny_backend:TinyBackend"}, modules)


def test_its_bundles_are_exported_verified_and_check_themselves(tiny, reopened, tmp_path):
    options = ExportOptions(target_named("tiny").target, tmp_path / "bundle", takes_back_to_float=True)
    exported = export_bundle(reopened, map_of_trial(reopened, 2), options)
    assert exported.document["runtime"] == "tiny_kernels"
    assert "what the compiler of tiny kernels is told" in (exported.folder / "README.md").read_text()
    report = verify_engine(checked_files(exported.folder, exported.digest), repeats=0)
    assert (report.runtime, report.exit_code) == ("tiny_kernels", 0)
    (tmp_path / "tiny_device.py").unlink()  # a device has the runtime and the bundle
    done = subprocess.run(
        [sys.executable, exported.folder / "verify.py", "--no-latency", "--json"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runtime"]["name"] == "tiny_kernels"

"""Puts `tests/` on the import path, so that tests share the tiny models; what several tests use."""

import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
# Before NumPy and torch load: on small arrays their threads mostly wait for each other, and the tests run
# side by side already. Most of the time of trainings and of matrix roots went there.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Each of the processes that tests start would compile all of qsens anew, and each worker all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Small files by the ten thousand: tests would wait for the disk nearly as long as they compute.
MEMORY = Path("/dev/shm")
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4 * 2**30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
# What is made while tests are collected lives to the end: a third of the time went into looking it through.
gc.disable()


def pytest_collection_modifyitems(items):
    # A long one that starts last is waited for alone.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk(tmp_path_factory):
    """No test cuts the power, and a sweep of a tiny generator waits for the disk longer than it computes."""
    folder = str(tmp_path_factory.mktemp("temporary"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture
def no_figures(monkeypatch):
    """Drawing takes seconds; `tests/report` draws every figure."""
    monkeypatch.setattr("qsens.report.write.figures_of", lambda *_, **__: ())


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a distribution with entry points on the path, the way an installed package looks."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(distribution, group, entries, modules=()):
        info = tmp_path / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = "\n".join(f"{name} = {target}" for name, target in entries.items())
        (info / "entry_points.txt").write_text(f"[qsens.{group}]\n{lines}\n")
        for name, text in dict(modules).items():
            (tmp_path / f"{name}.py").write_text(text)

    return install


# The imports inside the fixtures keep tests of other things free of ONNX.
@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A project folder with `generator.onnx`, `photos` and `run`: five layers, one of them transposed."""
    import onnx
    from lowered_models import residual_generator
    from tiny_photos import write_photos
    from tiny_sweeps import SMALL_SWEEP, score_run

    project = tmp_path_factory.mktemp("project")
    onnx.save(residual_generator(), project / "generator.onnx")
    photos = write_photos(project / "photos")
    score_run(project / "generator.onnx", out=project / "run", calibration=str(photos), **SMALL_SWEEP)
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
    from qsens.run.reopen import reopen_run

    return reopen_run(finished_run / "run")

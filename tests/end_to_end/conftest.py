"""What the tests of whole command lines share: inputs made once, and a report that costs nothing."""

import shutil
from pathlib import Path

import pytest
from tiny_runs import sweep, write_generator, write_images


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Six images of 16x16."""
    return write_images(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="session")
def generator(tmp_path_factory):
    """Four convolutions in two blocks, image to image."""
    return write_generator(tmp_path_factory.mktemp("data") / "generator.onnx")


def write_nothing(folder: Path, *, open_browser: bool = False, **_) -> Path:
    return folder / "report.html"


@pytest.fixture
def no_report(monkeypatch):
    """Drawing takes seconds; `test_run_commands.py` draws a real report."""
    monkeypatch.setattr("qsens.report.write.write_report", write_nothing)


@pytest.fixture(scope="session")
def whole(generator, photos, tmp_path_factory):
    """A finished run of nine maps, to look at."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qsens.report.write.write_report", write_nothing)
        assert sweep(generator, photos, out).exit_code == 0
    return out


@pytest.fixture
def run(whole, tmp_path, no_report):
    """A copy of it, to damage and to take up again."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path

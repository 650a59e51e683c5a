"""What the tests of whole command lines share: inputs made once, and a report that costs nothing."""

import shutil
from pathlib import Path

import pytest
from tiny_runs import end_with_the_choice, sweep, write_generator, write_images


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Six images of 16x16."""
    return write_images(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="session")
def generator(tmp_path_factory):
    """Four convolutions in two blocks, image to image."""
    return write_generator(tmp_path_factory.mktemp("data") / "generator.onnx")


@pytest.fixture
def no_report(monkeypatch):
    """Sweeps end with the scores and the chosen map."""
    end_with_the_choice(monkeypatch)


@pytest.fixture(scope="session")
def whole(generator, photos, tmp_path_factory):
    """A finished run of nine maps, to look at."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        end_with_the_choice(patch)
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

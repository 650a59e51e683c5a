"""README: its Python example runs, and every command and option it names exists."""

import doctest
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from lowered_models import residual_generator
from PIL import Image

from qsens.cli.main import COMMANDS, main

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


@pytest.fixture
def generator_and_photographs(tmp_path, monkeypatch):
    """What the example takes for granted, in the working folder."""
    monkeypatch.chdir(tmp_path)
    onnx.save(residual_generator(), "generator.onnx")
    Path("photographs").mkdir()
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)):
        Image.fromarray(pixels).save(f"photographs/{index}.png")


@pytest.mark.usefixtures("generator_and_photographs")
def test_python_example_does_what_it_shows():
    results = doctest.testfile(str(README), module_relative=False)
    assert results.attempted >= 3
    assert results.failed == 0


def test_commands_and_options_of_the_readme_exist():
    commands = set(re.findall(r"^(?:\S*bin/)?qsens ([a-z]+)", TEXT, re.MULTILINE))
    assert {"layers", "plan", "sweep", "select", "report"} <= commands <= set(COMMANDS)
    known = " ".join(CliRunner().invoke(main, [name, "--help"]).output for name in COMMANDS)
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT)):
        assert option in known, option


def test_links_of_the_readme_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (README.parent / target).exists(), target

"""README and the guides: the Python example runs; commands and options they name exist, and links lead on."""

import doctest
import re
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from lowered_models import residual_generator
from PIL import Image

from qsens.cli.main import COMMANDS, main

README = Path(__file__).parents[1] / "README.md"
ZOO = README.parent / "qsens" / "zoo"
TEXT = README.read_text(encoding="utf-8")
ENGINES = README.parent / "docs" / "engines.md"
COMPARING = README.parent / "docs" / "comparing.md"
PAGES = (
    README,
    README.parent / "benchmarks" / "README.md",
    README.parent / "reports" / "README.md",
    README.parent / "CHANGELOG.md",
    *sorted((README.parent / "docs").rglob("*.md")),
)


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
    commands = commands_of(TEXT)
    assert {"layers", "plan", "sweep", "select", "report", "export", "verify", "bench"} <= commands
    check_commands(TEXT)


def test_commands_and_options_of_the_guide_to_engines_exist():
    text = ENGINES.read_text(encoding="utf-8")
    assert {"export", "verify", "bench", "devices"} <= commands_of(text)
    check_commands(text)


def test_commands_and_options_of_the_guide_to_comparing_exist():
    text = COMPARING.read_text(encoding="utf-8")
    assert {"sweep", "compare"} <= commands_of(text)
    check_commands(text)


def commands_of(text: str) -> set[str]:
    return set(re.findall(r"^(?:\S*bin/)?qsens ([a-z]+)", text, re.MULTILINE))


def check_commands(text: str) -> None:
    assert commands_of(text) <= set(COMMANDS)
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)):
        assert option in all_help(), option


@cache
def all_help() -> str:
    return " ".join(CliRunner().invoke(main, [name, "--help"]).output for name in COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(README.parent).as_posix())
def test_links_lead_somewhere_and_files_named_are_there(page):
    text = page.read_text(encoding="utf-8")
    targets = [page.parent / target for target in re.findall(r"\]\(([^)#:]+)\)", text)]
    names = re.findall(r"`((?:qsens|tests|benchmarks|docs)/[\w./-]+)`", text)
    for path in (*targets, *(README.parent / name for name in names)):
        # All else is tested in a copy without the zoo too.
        assert path.exists() or (not ZOO.exists() and ZOO.name in path.parts), path

"""README and the guides: the Python example runs; commands and options they name exist, and links lead on."""

import doctest
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from lowered_models import residual_generator
from PIL import Image

from qsens.calibration.rules import ANY_IMAGE, rules_for_images
from qsens.cli.main import COMMANDS
from qsens.core.interfaces import InputSpec
from qsens.core.spec import read_spec

README = Path(__file__).parents[1] / "README.md"
ZOO = README.parent / "qsens" / "zoo"
TEXT = README.read_text(encoding="utf-8")
DOCS = README.parent / "docs"
PAGES = (
    README,
    README.parent / "benchmarks" / "README.md",
    README.parent / "reports" / "README.md",
    README.parent / "CHANGELOG.md",
    *sorted(DOCS.rglob("*.md")),
)


@pytest.fixture
def generator_and_photographs(tmp_path, monkeypatch):
    """What the example takes for granted, in the working folder."""
    monkeypatch.chdir(tmp_path)
    onnx.save(residual_generator(), "generator.onnx")
    Path("photographs").mkdir()
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)):
        Image.fromarray(pixels).save(f"photographs/{index}.png")


@pytest.mark.usefixtures("generator_and_photographs", "no_figures")
def test_python_example_does_what_it_shows():
    results = doctest.testfile(str(README), module_relative=False)
    assert results.attempted >= 3
    assert results.failed == 0


def test_the_readme_names_the_commands_of_the_journey():
    """That all commands and options which are named exist is checked by tests/cli/test_named_options.py."""
    named = set(re.findall(r"^qsens ([a-z]+)", TEXT, re.MULTILINE))
    assert named <= set(COMMANDS)
    assert {"plan", "sweep", "select", "export", "verify", "bench", "compare"} <= named


def test_the_spec_of_the_guide_to_inputs_feeds_its_generator(tmp_path):
    text = (DOCS / "inputs.md").read_text(encoding="utf-8")
    (tmp_path / "generator.toml").write_text(re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1])
    spec = read_spec(tmp_path / "generator.toml")
    inputs = [
        InputSpec("image", (3, 8, 8), "float32", is_batched=True),
        InputSpec("z", (4,), "float32", is_batched=True),
        InputSpec("strength", (1,), "float32", is_batched=False),
    ]
    rules = rules_for_images(inputs, {**dict(spec.inputs), ANY_IMAGE: spec.image_rule})
    assert (rules["image"].source, rules["image"].value_range) == ("image", (-1.0, 1.0))
    assert (rules["z"].source, rules["strength"].value) == ("normal", (0.7,))


def test_messages_of_the_guide_to_refusals_are_those_of_the_code():
    """Each heading quotes parts of one; an f-string between them stands for what differs."""
    code = " ".join(path.read_text(encoding="utf-8") for path in (README.parent / "qsens").rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)
    headings = re.findall(r"^### (.*)", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.M)
    quoted = [part for heading in headings for part in re.findall(r"`([^`]+)`", heading)]
    assert len(quoted) > 15
    assert [part for part in quoted if part not in code] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(README.parent).as_posix())
def test_links_lead_somewhere_and_files_named_are_there(page):
    text = page.read_text(encoding="utf-8")
    targets = [page.parent / target for target in re.findall(r"\]\(([^)#:]+)\)", text)]
    names = re.findall(r"`((?:qsens|tests|benchmarks|docs)/[\w./-]+)`", text)
    for path in (*targets, *(README.parent / name for name in names)):
        # All else is tested in a copy without the zoo too.
        assert path.exists() or (not ZOO.exists() and ZOO.name in path.parts), path

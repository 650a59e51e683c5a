"""Names that are markup, formulas or control characters to somebody: a sweep and its report hold them."""

import csv
import json
import os

import pytest
from tiny_runs import chain, end_with_the_choice, qsens, sweep, write_generator, write_images

from qsens.run.folder import read_study

NODES = ("/$x^{$/_under\r", "/=1+1/\x1b[2Jclear", "/\u202e<b>/line\nfeed", "/'@cell/nul\x00")
TENSORS = {"w0": "w\r0", "c1": "$c\x1b1$", "image": "im\nage", "picture": "$pic\x00ture$", "r0": "=r0"}


def odd_chain():
    model = chain()
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    for node, name in zip(convolutions, NODES, strict=True):
        node.name = name
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [TENSORS.get(name, name) for name in names]
    for value in (*model.graph.initializer, *model.graph.input, *model.graph.output):
        value.name = TENSORS.get(value.name, value.name)
    return model


@pytest.fixture(scope="module")
def odd(tmp_path_factory, photos):
    """A swept run whose folder has a name that is no UTF-8."""
    folder = tmp_path_factory.mktemp("odd")
    out = folder / os.fsdecode(b"run \xff\x1b[2J")
    with pytest.MonkeyPatch.context() as patch:
        end_with_the_choice(patch)
        result = sweep(write_generator(folder / "odd.onnx", odd_chain()), photos, out, "--budget", "20")
    assert result.exit_code == 0, result.output
    return out


def test_a_run_of_odd_names_is_reported(odd, no_figures):
    result = qsens("report", odd)
    assert result.exit_code == 0, result.output
    page = (odd / "report.html").read_text(encoding="utf-8")
    assert "$x^{$" in page
    assert r"\u202e&lt;b&gt;" in page
    assert not set(page) & set("\x1b\0\u202e")


def test_its_tables_are_read_back_and_hold_no_formula(odd):
    names = [layer.name for layer in read_study(odd).layers]
    assert names == ["$x^{$", r"=1+1", r"\u202e<b>", "'@cell"] or all(name.isprintable() for name in names)
    for path in odd.glob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "@", "+"))]


def test_its_map_is_chosen_and_written(odd):
    result = qsens("select", odd, "--budget", "20", "--write", "--json")
    assert result.exit_code == 0, result.output
    assert {layer["name"] for layer in json.loads(result.stdout)["layers"]} == {
        layer.name for layer in read_study(odd).layers
    }


def test_pictures_whose_names_are_no_utf8_are_read(tmp_path, generator, no_report):
    photos = write_images(tmp_path / "photos")
    for place, path in enumerate(sorted(photos.iterdir())):
        path.rename(photos / os.fsdecode(b"\xff\x1b\n%d.png" % place))
    result = sweep(generator, photos, tmp_path / "run")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("option", ["checkpoint", "--calibration"])
def test_a_path_that_a_spec_cannot_hold_is_refused(tmp_path, generator, photos, option, no_report):
    odd = tmp_path / os.fsdecode(b"\xffodd")
    odd.symlink_to(generator if option == "checkpoint" else photos)
    given = (odd, photos) if option == "checkpoint" else (generator, odd)
    result = sweep(*given, tmp_path / "run")
    assert result.exit_code == 2, result.output
    assert "is no UTF-8" in result.stderr
    assert "rename" in result.stderr

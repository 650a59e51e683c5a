import importlib
import inspect
from dataclasses import fields

import numpy as np
import onnx
import pytest
from lowered_models import residual_generator
from PIL import Image
from tiny_sweeps import SMALL_SWEEP, score_run

import qsens
from qsens.api import sweep
from qsens.cli.main import COMMANDS
from qsens.core.errors import QsensError
from qsens.core.spec import SweepSpec
from qsens.python.values import SweepValues

# Functions whose names are not those of their commands: modules have these, or one would not say it.
OTHER_NAMES = {"report": {"write_report"}, "calibration": {"check_set", "describe_set"}}
GIVEN_APART = {"checkpoint", "calibration", "evaluation"}


@pytest.fixture
def inputs(tmp_path):
    onnx.save(residual_generator(), tmp_path / "generator.onnx")
    folder = tmp_path / "photographs"
    folder.mkdir()
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)):
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path


def test_every_command_is_a_function_with_typed_arguments_and_a_docstring():
    importlib.import_module("qsens.api")
    wanted = set().union(*(OTHER_NAMES.get(name, {name}) for name in COMMANDS))
    assert wanted <= set(qsens.__all__) <= set(dir(qsens))
    for name in set(qsens.__all__) - {"Run"}:
        function = getattr(qsens, name)
        parameters = inspect.signature(function).parameters.values()
        assert function.__doc__, name
        assert all(entry.annotation is not entry.empty for entry in parameters), name


def test_every_key_of_a_spec_has_a_type_for_python():
    assert set(SweepValues.__annotations__) == {entry.name for entry in fields(SweepSpec)} - GIVEN_APART


def test_an_export_that_takes_long_is_said_before_it_starts(tmp_path):
    lines = []
    with pytest.raises(QsensError, match="nowhere"):
        sweep(SweepSpec(model="nowhere:UNet"), tmp_path / "run", hear=lines.append)
    assert lines == [f"Opening nowhere:UNet, for {tmp_path / 'run'}"]


def test_from_a_file_to_a_page(inputs, no_figures):
    graph = qsens.layers(inputs / "generator.onnx")
    assert [layer.name for layer in graph.layers] == ["first", "middle", "inner", "up", "last"]
    heard, lines = [], []
    run = qsens.sweep(
        inputs / "generator.onnx",
        calibration=inputs / "photographs",
        strategy="boundary",
        strategy_options={"direction": "int8-first"},
        out=inputs / "run",
        progress=lambda done, total, label: heard.append((done, total)),
        hear=lines.append,
        **{**SMALL_SWEEP, "metrics": ("psnr",)},
    )
    assert len(run.trials) == 3 + 4
    assert heard[-1] == (7, 7)
    assert "Choosing a map and writing the report" in lines
    chosen = run.choose("1")
    assert chosen.int8_macs_share == 1.0
    assert chosen.layers["up"].reason
    assert repr(chosen).startswith("All 5 layers run in INT8: 100 % of the MACs.")
    assert "<html" in qsens.write_report(str(run.folder)).read_text(encoding="utf-8")
    assert "5 layers, 7 maps scored" in repr(qsens.open_run(run.folder))
    assert "7 maps scored" in run._repr_html_()


@pytest.mark.slow
def test_workers_score_what_this_process_scores(inputs):
    values = {"calibration": str(inputs / "photographs"), "metrics": ["psnr"], "threads": 1}
    checkpoint = inputs / "generator.onnx"
    alone = score_run(checkpoint, out=inputs / "alone", **values)
    together = score_run(checkpoint, out=inputs / "together", workers=2, **values)
    assert [(trial.requested, trial.scores) for trial in together.trials] == [
        (trial.requested, trial.scores) for trial in alone.trials
    ]


def test_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'seep'"):
        qsens.seep  # noqa: B018 - the access is what is tested

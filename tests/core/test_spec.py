"""The spec: defaults, digest, differences, TOML."""

import math
import os
import pickle
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qsens.core.errors import SpecError
from qsens.core.interfaces import InputRule, OutputRule
from qsens.core.schema import load_schema
from qsens.core.spec import (
    COLOUR_ORDERS,
    CROPS,
    PLACEMENTS,
    RANGE_METHODS,
    WEIGHT_SCALES,
    Options,
    SweepSpec,
    difference,
    read_spec,
    spec_from_values,
    spec_going_on,
    write_spec,
)
from qsens.core.spec_paths import is_path

FULL = SweepSpec(
    checkpoint="/data/generator.onnx",
    model="package.module:factory",
    model_options=Options.of({"width": 64, "heads": [1, 2], "name": "ä"}),
    input_shapes=(("style", (1, 512)), ("image", (1, 3, 96, 96))),
    inputs=(("style", InputRule(source="normal")), ("mask", InputRule(source="constant", value=(0.5,)))),
    image_rule=InputRule(value_range=(-1.0, 1.0), colour_order="bgr", crop="center", resize=(96, 128)),
    output=OutputRule("picture", (-1.0, 1.0), "bgr"),
    calibration="/data/images",
    evaluation="package.sets:clips",
    reference="/data/real",
    pinned=("out.*=fp16", "a=b=fp32"),
    budget="5%",
    guard="2",
    inception_weights="/data/weights.pth",
)


def write_toml(tmp_path, text):
    path = tmp_path / "sweep.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("spec", [SweepSpec(), FULL])
def test_a_spec_survives_its_file(tmp_path, spec):
    write_spec(tmp_path / "spec.toml", spec)
    assert read_spec(tmp_path / "spec.toml") == spec


def test_the_file_holds_every_value_and_names_absent_ones(tmp_path):
    write_spec(tmp_path / "spec.toml", SweepSpec())
    text = (tmp_path / "spec.toml").read_text(encoding="utf-8")
    for entry in fields(SweepSpec):
        assert entry.name in text


def test_a_spec_can_be_hashed_and_pickled():
    assert pickle.loads(pickle.dumps(FULL)) == FULL
    assert len({FULL, replace(FULL), SweepSpec()}) == 2


def test_options_keep_their_values():
    assert FULL.model_options.get("width") == 64
    assert FULL.model_options.to_dict() == {"heads": [1, 2], "name": "ä", "width": 64}
    assert FULL.model_options.get("absent") is None
    assert not Options()


@pytest.mark.parametrize("value", [None, object()])
def test_options_refuse_values_that_a_file_cannot_hold(value):
    with pytest.raises(SpecError, match="options"):
        Options.of({"a": value})


def test_the_schema_knows_exactly_the_fields_of_a_spec():
    schema = load_schema("spec")["properties"]
    assert set(schema) == {entry.name for entry in fields(SweepSpec)}
    assert schema["placement"]["enum"] == list(PLACEMENTS)
    assert schema["weight_scales"]["enum"] == list(WEIGHT_SCALES)
    assert schema["range_method"]["enum"] == list(RANGE_METHODS)
    assert schema["float_precision"]["enum"] == ["fp16", "fp32"]
    rule = schema["image_rule"]["properties"]
    assert set(rule) == {entry.name for entry in fields(InputRule)}
    assert rule["colour_order"]["enum"] == list(COLOUR_ORDERS)
    assert rule["crop"]["enum"] == list(CROPS)


CHANGES = {
    "seed": 1,
    "metrics": ("psnr",),
    "checkpoint": "/data/other.onnx",
    "backend_options": Options.of({"provider": "cuda"}),
    "image_rule": InputRule(colour_order="rgb"),
    "output": OutputRule(),
    "pinned": (),
    "percentile": 0.99,
    "input_shapes": (),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_results_changes_the_digest_and_is_named(name):
    changed = replace(FULL, **{name: CHANGES[name]})
    assert changed.digest != FULL.digest
    assert any(line.startswith(name) for line in difference(FULL, changed))


@pytest.mark.parametrize(("name", "value"), [("threads", 3), ("budget", "7"), ("guard", None)])
def test_what_does_not_change_results_is_no_difference(name, value):
    changed = replace(FULL, **{name: value})
    assert changed.digest == FULL.digest
    assert difference(FULL, changed) == []


def test_a_difference_shows_both_values():
    assert difference(SweepSpec(seed=1), SweepSpec(seed=2)) == ["seed: 1 -> 2"]
    assert difference(SweepSpec(), SweepSpec(model="a:b")) == ['model: absent -> "a:b"']


def test_a_moved_project_has_the_same_digest():
    assert replace(FULL, checkpoint="/elsewhere/generator.onnx").digest == FULL.digest


@pytest.mark.parametrize(
    ("text", "expected"),
    [("images", True), ("noise", False), ("a.b:c", False), ("C:/images", True), ("a b:c", True)],
)
def test_paths_are_told_from_names(text, expected):
    assert is_path("calibration", text) is expected


def test_relative_paths_are_relative_to_the_file(tmp_path):
    folder = tmp_path / "specs"
    folder.mkdir()
    path = write_toml(folder, 'checkpoint = "../g.onnx"\ncalibration = "images"\nevaluation = "noise"\n')
    spec = read_spec(path)
    assert spec.checkpoint == (tmp_path / "g.onnx").as_posix()
    assert spec.calibration == (folder / "images").as_posix()
    assert spec.evaluation == "noise"


def test_paths_below_the_working_folder_are_written_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "reports" / "run"
    run.mkdir(parents=True)
    spec = SweepSpec(checkpoint=(tmp_path / "g.onnx").as_posix(), reference="/far/away")
    write_spec(run / "spec.toml", spec)
    text = (run / "spec.toml").read_text(encoding="utf-8")
    assert 'checkpoint = "../../g.onnx"' in text
    assert 'reference = "/far/away"' in text
    assert read_spec(run / "spec.toml") == spec


def test_values_win_over_their_base_and_tables_merge(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = {"seed": 3, "image_rule": {"crop": "center"}, "strategy_options": {"by": "block", "step": 2}}
    values = {"checkpoint": "g.onnx", "image_rule": {"resize": [8, 8]}, "strategy_options": {"by": "layer"}}
    spec = spec_from_values(values, "command line", base)
    assert spec.seed == 3
    assert spec.image_rule == InputRule(crop="center", resize=(8, 8))
    assert spec.strategy_options == Options.of({"by": "layer", "step": 2})
    assert spec.checkpoint == (Path.cwd() / "g.onnx").as_posix()
    assert spec.placement == SweepSpec().placement


WRONG = [
    ("placementt = 'dense'", "no key named 'placementt'", "did you mean 'placement'"),
    ("placement = 'denze'", "'placement' is 'denze'", "dense, dense-float-output or kernels"),
    ("batch_size = 0", "'batch_size' is 0", "from 1"),
    ("batch_size = 'many'", "'batch_size' is 'many'", "whole number"),
    ("percentile = 2", "'percentile' is 2", "at most 1"),
    ("metrics = []", r"'metrics' is \[\]", "at least one"),
    ("pinned = ['out=fp8']", "'pinned.0' is 'out=fp8'", "PATTERN=PRECISION"),
    ("budget = 'lots'", "'budget' is 'lots'", "2.0"),
    ("[image_rule]\ncolor_order = 'rgb'", "no key named 'image_rule.color_order'", "colour_order"),
    ("[inputs.x]\nsource = 'random'", "'inputs.x.source' is 'random'", "normal"),
    ("[input_shapes]\nx = [1, -3]", "'input_shapes.x.1' is -3", "at least 1"),
    ("seed = ", "is not TOML", "quotes"),
]


@pytest.mark.parametrize(("text", "message", "hint"), WRONG)
def test_a_wrong_spec_names_file_key_and_remedy(tmp_path, text, message, hint):
    path = write_toml(tmp_path, text)
    with pytest.raises(SpecError, match=message) as caught:
        read_spec(path)
    assert hint in caught.value.hint
    assert "sweep.toml" in caught.value.message


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_spec_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "sweep.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpecError, match=r"sweep\.toml"):
        read_spec(path)


PATH_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@settings(deadline=None)
@given(
    options=st.dictionaries(PATH_TEXT, st.integers(-5, 5) | st.text(max_size=5) | st.booleans(), max_size=3),
    seed=st.integers(0, 2**31),
    value_range=st.tuples(st.floats(-10, 0), st.floats(1, 300)),
)
def test_plain_values_make_the_same_spec(options, seed, value_range):
    spec = SweepSpec(
        model_options=Options.of(options), seed=seed, image_rule=InputRule(value_range=value_range)
    )
    assert SweepSpec.from_mapping(spec.to_mapping()) == spec


@pytest.mark.parametrize("value", [None, [None], {"a": [{"b": None}]}, math.nan, [math.inf], object()])
def test_options_that_toml_and_json_cannot_both_hold_are_refused(value):
    with pytest.raises(SpecError, match="options"):
        Options.of({"x": value})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("seed = " + "9" * 5000, "is not TOML"),
        ("seed = 99999999999999999999", "is not TOML: it holds a whole number beyond 64 bits"),
        ("percentile = nan", "is not TOML: it holds a number that is nan"),
        ("image_rule = {value_range = [0, inf]}", "is not TOML: it holds a number that is inf"),
        ("model_options = {a = " + "[" * 2000 + "]" * 2000 + "}", "is not TOML: it is nested"),
        ('checkpoint = "a\\u0000b"', r"a\\x00b holds a NUL"),
    ],
)
def test_a_value_beyond_bounds_is_named(tmp_path, line, message):
    path = tmp_path / "spec.toml"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(SpecError, match=message):
        read_spec(path)


def test_a_text_that_is_no_utf8_is_refused():
    with pytest.raises(SpecError, match=r"command line: .*\\udcff is no UTF-8"):
        spec_from_values({"model": "a\udcff"}, "command line")


def test_a_pipe_is_no_spec(tmp_path):
    os.mkfifo(tmp_path / "spec.toml")
    with pytest.raises(SpecError, match="it is a pipe"):
        read_spec(tmp_path / "spec.toml")


def test_a_run_begun_with_what_its_target_asked_for_then_goes_on_with_it():
    before = SweepSpec(target="onnxruntime", placement="dense")
    asked = spec_from_values({"target": "onnxruntime"}, "arguments")
    assert asked.placement == "kernels"
    assert spec_going_on(asked, before) == before
    assert spec_going_on(asked, asked) == asked
    stated = SweepSpec(target="onnxruntime", placement="inputs")
    assert spec_going_on(stated, before) == stated
    elsewhere = SweepSpec(placement="residual")
    assert spec_going_on(elsewhere, SweepSpec(placement="dense")) == elsewhere

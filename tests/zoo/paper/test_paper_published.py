import tomllib
from importlib.resources import files

import pytest

from qsens.zoo.paper.ablation import TRAININGS
from qsens.zoo.paper.published import VALUES, published
from qsens.zoo.wav2lip.architecture import scaled
from qsens.zoo.wav2lip.variants import VARIANTS


def test_every_value_has_a_source_and_is_listed_once():
    assert all(entry.source and entry.text for entry in VALUES)
    keys = [(entry.subject, entry.quantity) for entry in VALUES]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("entry", VALUES, ids=lambda entry: f"{entry.subject}-{entry.quantity}")
def test_the_number_is_the_one_in_the_text(entry):
    number = entry.text.split(" ")[0].rstrip("x")
    if entry.value is None:
        assert " " in entry.text  # two numbers or a span: none of them stands for the value
        return
    scale = {"M": 1e6, "G": 1e9}.get(number[-1], 1)
    assert float(number.rstrip("MG")) * scale == pytest.approx(entry.value)


def test_what_is_not_known_is_absent():
    assert published("student/INT8", "fid") is None
    assert published("student/FP16", "fid") is None
    assert published("teacher/MIX", "fid") is None


def test_the_values_of_the_headline():
    assert published("teacher", "fid").value == 3.70
    assert (published("student", "lse-d").value, published("student", "lse-c").value) == (6.35, 8.04)
    assert (published("student", "fid").value, published("student/MIX", "fid").value) == (5.30, 5.06)


def test_rows_of_table_2_take_only_values_that_are_theirs():
    subjects = [training.subject for training in TRAININGS if training.subject]
    assert subjects == ["teacher", "student"]


@pytest.mark.parametrize("training", TRAININGS, ids=lambda training: training.name)
def test_every_row_of_table_2_is_a_shipped_spec_that_says_the_same(training):
    spec = tomllib.loads((files("qsens.zoo") / "specs" / f"{training.name}.toml").read_text())
    assert scaled(spec.get("width", 1.0), residual=spec.get("residual", True)) == VARIANTS[training.variant]
    assert spec.get("sync", "threshold") == training.sync
    if training.variant != "teacher":
        mode = spec.get("teacher_mode", "offline") if spec.get("kd", True) else "no"
        assert mode == training.distilled

import json
import tomllib
from importlib.resources import files

import pytest

from qsens.core.errors import RunFolderError, SpecError
from qsens.core.schema import check_value
from qsens.zoo.training.callbacks import learning_rate_at
from qsens.zoo.training.spec import StudentSpec, TalkerSpec
from qsens.zoo.training.spec_keys import schema_of
from qsens.zoo.training.spec_reading import (
    SPEC_CLASSES,
    plain_values,
    read_training_spec,
    refuse_difference,
    shipped_specs,
    spec_from_values,
)


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "clips").mkdir()
    return {"data": [str(tmp_path / "clips")], "out": str(tmp_path / "out")}


def test_every_shipped_spec_is_valid(folders):
    for name in shipped_specs():
        spec = read_training_spec(name, folders)
        assert plain_values(spec)["kind"] == spec.kind


def test_the_shipped_specs_have_the_rows_of_table_2(folders):
    rows = {
        (spec.residual, spec.kd, spec.sync, spec.teacher_mode)
        for spec in (read_training_spec(name, folders) for name in shipped_specs())
        if isinstance(spec, StudentSpec)
    }
    plain = {
        (residual, False, sync, "offline")
        for residual in (True, False)
        for sync in ("start", "middle", "none")
    }
    distilled = {(residual, True, sync, "offline") for residual, _, sync, _ in plain}
    online = {(residual, True, "start", "online") for residual in (True, False)}
    assert rows == plain | distilled | online


def test_the_papers_weights_are_the_defaults(folders):
    spec = read_training_spec("student-bare-kd-start", folders)
    weights = (
        spec.channel_weight, spec.ssim_weight, spec.feature_weight, spec.style_weight, spec.variation_weight,
        spec.kd_sync_weight,
    )  # fmt: skip
    assert weights == (10, 10, 10, 1e4, 1e-5, 3)
    teacher = read_training_spec("teacher", folders)
    assert (teacher.sync_weight, teacher.gan_weight, teacher.sync_threshold) == (0.03, 0.07, 0.75)


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({"batchsize": 3}, "no key named 'batchsize'", "did you mean 'batch_size'?"),
        ({"steps": 0}, "'steps' is 0", "at least 1"),
        ({"precision": "fp8"}, "'precision' is 'fp8'", "bf16-mixed"),
        ({"kind": "student", "output_range": [1]}, "'output_range' is [1]", "black and white"),
        ({"kind": "talkr"}, "'kind' is 'talkr'", "talker, expert, teacher, student"),
        ({"data": []}, "no folder to train on", "--data"),
        ({"data": ["/nowhere/at/all"]}, "/nowhere/at/all does not exist", "qsens zoo corpus"),
    ],
)
def test_a_wrong_key_or_value_is_named(folders, values, message, hint):
    with pytest.raises(SpecError) as caught:
        spec_from_values({"kind": "talker", **folders, **values}, "my.toml")
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_spec_without_kind_or_file_is_refused(folders):
    with pytest.raises(SpecError, match="'kind' is missing"):
        spec_from_values(folders, "my.toml")
    with pytest.raises(SpecError, match="cannot read the spec nowhere") as caught:
        read_training_spec("nowhere", {})
    assert "talker" in caught.value.hint


def test_paths_in_a_file_are_relative_to_it_and_options_win(tmp_path, monkeypatch):
    for name in ("project/clips", "elsewhere/more", "elsewhere/held"):
        (tmp_path / name).mkdir(parents=True)
    file = tmp_path / "project" / "run.toml"
    file.write_text('kind = "talker"\ndata = ["clips"]\nout = "weights"\n')
    monkeypatch.chdir(tmp_path / "elsewhere")
    spec = read_training_spec(str(file), {"validation": "held", "out": None, "data": ()})
    assert spec.data == (tmp_path / "project" / "clips",)
    assert (spec.out, spec.validation) == (tmp_path / "project" / "weights", tmp_path / "elsewhere" / "held")
    assert read_training_spec(str(file), {"data": ("more",)}).data == (tmp_path / "elsewhere" / "more",)


def test_a_folder_keeps_to_the_spec_it_began_with(tmp_path, folders):
    old = plain_values(spec_from_values({"kind": "talker", **folders}, "old"))
    same = plain_values(
        spec_from_values({"kind": "talker", **folders, "log_every": 7, "max_minutes": 3.0}, "same")
    )
    refuse_difference(old, same, tmp_path)
    with pytest.raises(RunFolderError, match="seed: 0 -> 4; warmup_steps: absent -> 9"):
        refuse_difference({"seed": 0}, {"seed": 4, "warmup_steps": 9}, tmp_path)


def test_every_schema_is_json_and_closed():
    for spec_class in SPEC_CLASSES.values():
        schema = json.loads(json.dumps(schema_of(spec_class)))
        assert schema["required"] == ["kind"]
        assert schema["additionalProperties"] is False
        assert all("description" in entry for name, entry in schema["properties"].items() if name != "kind")
    check_value({"kind": "talker"}, schema_of(TalkerSpec), "here")


def test_shipped_files_state_steps_and_seed():
    for name in shipped_specs():
        values = tomllib.loads((files("qsens.zoo") / "specs" / f"{name}.toml").read_text())
        assert {"steps", "seed"} <= values.keys(), name


def test_the_learning_rate_rises_falls_and_stays(folders):
    common = {**folders, "steps": 110, "warmup_steps": 10, "learning_rate": 1.0, "final_learning_rate": 0.1}
    spec = spec_from_values({"kind": "talker", **common}, "here")
    assert learning_rate_at(0, spec) == pytest.approx(0.1)
    assert learning_rate_at(9, spec) == 1.0
    assert learning_rate_at(10, spec) == 1.0
    assert learning_rate_at(60, spec) == pytest.approx(0.55)
    assert learning_rate_at(110, spec) == pytest.approx(0.1)
    steady = spec_from_values({"kind": "talker", **common, "schedule": "constant"}, "here")
    assert learning_rate_at(109, steady) == 1.0

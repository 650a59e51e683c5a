from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from qsens.cli.main import main
from qsens.core.errors import LoadError, SpecError
from qsens.core.spec import SweepSpec, write_spec
from qsens.zoo.paper.ablation import read_checkpoints
from qsens.zoo.paper.request import PARTS, PaperRequest, parts_from_text, values_for_sweeps
from qsens.zoo.paper.runs import wanted_metrics
from qsens.zoo.talker.demo import TalkerDemo
from qsens.zoo.wav2lip.generator import Wav2Lip


def request(tmp_path, **changes):
    values = {
        "out": tmp_path,
        "parts": PARTS,
        "values": {"model": "wav2lip", "calibration": "c", "metrics": ["psnr"], "metrics_are_chosen": True},
        "student": Path("student.pt"),
        "teacher": None,
        "checkpoints": {},
        "trust_checkpoint": False,
        "command": "qsens zoo paper",
    }
    return PaperRequest(**{**values, **changes})


def test_parts_keep_the_order_of_the_page():
    assert parts_from_text(None) == PARTS
    assert parts_from_text("table2, figure1") == ("figure1", "table2")


@pytest.mark.parametrize(("text", "hint"), [("figure2", "figure1"), (",", "table1")])
def test_parts_that_there_are_not_are_named(text, hint):
    with pytest.raises(SpecError) as caught:
        parts_from_text(text)
    assert hint in caught.value.hint


@pytest.mark.parametrize("key", ["strategy", "model", "layer_order"])
def test_what_the_paper_fixes_cannot_be_chosen(key):
    with pytest.raises(SpecError, match=key.replace("_", "-")):
        values_for_sweeps({key: "definition", "calibration": "c", "evaluation": "e"})


def test_the_real_frames_of_the_users_set_are_the_reference(tmp_path):
    given = {"calibration": "c", "evaluation": str(tmp_path)}
    assert values_for_sweeps(given)["reference"] == str(tmp_path)
    assert values_for_sweeps({**given, "reference": "r"})["reference"] == "r"


def test_plans_sweep_the_students_boundary_and_the_teachers_ends(tmp_path):
    asked = request(tmp_path, teacher=Path("t.pt"), checkpoints={"student-bare-plain-start": Path("s.pt")})
    student, teacher = asked.student_plan(), asked.teacher_plan()
    assert (student.values["strategy"], student.folder.name) == ("boundary", "sweep-student")
    assert teacher.values["strategy_options"] == {"by": "block", "first": 2, "last": 3}
    assert teacher.values["layer_order"] == "definition"
    assert asked.checkpoint_plans()["student-bare-plain-start"].values["strategy_options"]["last"] == 0


def test_options_of_the_students_strategy_do_not_reach_the_others(tmp_path):
    values = {"model": "wav2lip", "strategy_options": {"by": "block"}, "seed": 3}
    asked = request(tmp_path, values=values, teacher=Path("t.pt"))
    assert asked.student_plan().values["strategy_options"] == {"by": "block"}
    assert asked.teacher_plan().values["strategy_options"]["first"] == 2
    assert asked.teacher_plan().values["seed"] == 3


def test_a_teacher_may_come_from_the_file_of_checkpoints(tmp_path):
    asked = request(tmp_path, checkpoints={"teacher": Path("t.pt")})
    assert asked.teacher_plan().values["checkpoint"] == "t.pt"
    assert asked.checkpoint_plans() == {}


def test_checkpoints_are_relative_to_their_file(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"x")
    file = tmp_path / "rows.toml"
    file.write_text("[checkpoints]\nteacher = 'weights.pt'\n")
    assert read_checkpoints(file) == {"teacher": tmp_path / "weights.pt"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[checkpoints]\nteachr = 'weights.pt'", "no row 'teachr'"),
        ("[checkpoints]\nteacher = 'gone.pt'", "gone.pt"),
        ("[checkpoints]\nteacher = 3", "teacher is 3"),
        ("[weights]\nteacher = 'x'", "weights"),
        ("teacher 'x'", "not TOML"),
    ],
)
def test_a_wrong_file_of_checkpoints_is_explained(tmp_path, text, message):
    file = tmp_path / "rows.toml"
    file.write_text(text)
    with pytest.raises(SpecError, match=message) as caught:
        read_checkpoints(file)
    assert caught.value.hint


def test_a_missing_file_of_checkpoints_is_named(tmp_path):
    with pytest.raises(SpecError, match=r"gone\.toml"):
        read_checkpoints(tmp_path / "gone.toml")


def test_the_command_explains_a_part_that_there_is_not(tmp_path):
    result = CliRunner().invoke(main, ["zoo", "paper", "--only", "table9", "--out", str(tmp_path / "out")])
    assert result.exit_code != 0
    assert "table9" in result.output
    assert not (tmp_path / "out").exists()


def test_weights_of_another_architecture_than_their_row_are_refused_before_any_sweep(tmp_path):
    torch.save(Wav2Lip(0.25, residual=False).state_dict(), tmp_path / "bare.pt")
    fitting = request(
        tmp_path,
        student=None,
        parts=("table2",),
        checkpoints={"student-bare-plain-start": tmp_path / "bare.pt"},
    )
    fitting.check_weights()
    rows = {"student-residual-plain-start": tmp_path / "bare.pt"}
    wrong = request(tmp_path, student=tmp_path / "bare.pt", checkpoints=rows)
    with pytest.raises(SpecError, match="student-residual-plain-start") as caught:
        wrong.check_weights()
    assert "model.residual=false" in caught.value.hint


def test_a_file_that_is_no_checkpoint_is_refused_before_any_sweep(tmp_path):
    (tmp_path / "page.pt").write_text("<!DOCTYPE html>")
    with pytest.raises(LoadError):
        request(tmp_path, student=None, parts=("table2",), teacher=tmp_path / "page.pt").check_weights()


def test_sets_of_the_demo_are_taken_without_its_strategy_and_target(monkeypatch):
    monkeypatch.setattr(
        TalkerDemo,
        "spec_values",
        lambda *_: {"model": "wav2lip", "calibration": "c", "strategy": "ends", "target": "openvino"},
    )
    values = values_for_sweeps({"seed": 4})
    assert (values["calibration"], values["seed"]) == ("c", 4)
    assert values["placement"] == "dense"
    assert not {"strategy", "target"} & values.keys()


def test_mouth_sync_is_left_out_where_the_true_mouth_is_not_known(tmp_path):
    class Mute:
        def annotation(self, index):
            return {"clip": "a", "frame": index}

    class Drawn:
        def annotation(self, index):
            return {"mouth": [0.5, 0.5, 0.5]}

    names = ("psnr", "mouth-sync")
    assert wanted_metrics(names, tmp_path, Mute(), "no weights") == ("psnr",)
    assert wanted_metrics(names, tmp_path, Drawn(), "no weights") == names
    assert wanted_metrics(names, tmp_path, Drawn(), None) == (*names, "lse-d", "lse-c")


def test_a_run_goes_on_with_the_metrics_it_began_with(tmp_path):
    write_spec(tmp_path / "spec.toml", SweepSpec(metrics=("psnr",)))
    assert wanted_metrics(("psnr", "mouth-sync"), tmp_path, None, None) == ("psnr",)

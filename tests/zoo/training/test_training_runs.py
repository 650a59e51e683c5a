import csv
import dataclasses
import os
import signal
import tomllib

import pytest
import torch
from click.testing import CliRunner
from filelock import FileLock
from safetensors.torch import load_file
from small_specs import small_spec

from qsens.cli.main import main
from qsens.core.errors import DataError, LoadError, RunFolderError, SpecError
from qsens.zoo.training.batches import open_training_clips
from qsens.zoo.training.callbacks import CHECKPOINT_NAME
from qsens.zoo.training.kinds import distill, module_of, train
from qsens.zoo.training.spec_reading import plain_values
from qsens.zoo.wav2lip.opening import open_wav2lip


def silent(*_):
    """A progress that shows nothing."""


def interrupting(at, number=signal.SIGINT):
    """A progress that presses Ctrl-C, or sends another signal, when step `at` is reported."""

    def progress(done, *_):
        if done == at:
            os.kill(os.getpid(), number)

    return progress


def failing(at):
    """A progress under which the machine breaks down at step `at`."""

    def progress(done, *_):
        if done == at:
            raise OSError("the machine broke down")

    return progress


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same_weights(one, other, name="generator"):
    first, second = (load_file(folder / f"{name}.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    """A spec of a talker that has been trained, and the result."""
    spec = small_spec("talker", corpus, tmp_path_factory.mktemp("finished") / "run", fp16=True)
    return spec, train(spec, silent)


def test_a_talker_leaves_weights_a_record_and_metrics(finished):
    spec, result = finished
    weights = load_file(spec.out / "generator.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float16, torch.int64}
    record = tomllib.loads((spec.out / "training.toml").read_text())
    assert record["training"]["is_complete"]
    assert (record["training"]["steps"], record["training"]["samples_seen"]) == (6, 12)
    assert record["digests"]["corpus_sha256"] == open_training_clips(spec.data).digest
    assert record["corpus"]["frames"] == 60
    assert record["spec"]["data"] == [spec.data[0].name]
    assert "out" not in record["spec"]
    assert record["metrics"] == pytest.approx(dict(result.metrics))
    assert set(record["metrics"]) == {"psnr_db", "mouth_psnr_db", "wrong_audio_psnr_db", "copy_psnr_db"}
    assert [row["step"] for row in rows(spec.out)] == ["2", "4", "6"]
    assert [row["psnr_db"] != "" for row in rows(spec.out)] == [False, True, True]
    assert open_wav2lip(spec.out / "generator.safetensors").architecture.is_bare


def test_the_metrics_are_those_of_the_weights_as_written(finished, make_spec):
    spec, result = finished
    module = module_of(make_spec("talker", start=str(spec.out / "generator.safetensors"))).eval()
    with torch.no_grad():
        assert module.validation_metrics() == pytest.approx(dict(result.metrics))


def test_a_finished_run_is_not_run_again(finished):
    spec, first = finished
    assert train(spec, failing(6)).metrics == pytest.approx(dict(first.metrics))


def test_a_folder_of_another_run_is_refused(finished):
    with pytest.raises(RunFolderError, match="seed: 0 -> 1"):
        train(dataclasses.replace(finished[0], seed=1), silent)


def test_a_folder_in_use_is_refused(finished):
    with (
        FileLock(finished[0].out / ".lock"),
        pytest.raises(RunFolderError, match="in use by another training"),
    ):
        train(finished[0], silent)


KINDS = [
    ("talker", {}),
    ("expert", {}),
    ("teacher", {"sync": "middle"}),
    ("student", {"kd": False, "sync": "threshold", "sync_threshold": 99.0}),
    ("student", {"teacher_mode": "online", "teacher_width": 0.125}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "values"), KINDS)
def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(
    make_spec, small_networks, kind, values
):
    whole = make_spec(kind, "whole", **values)
    train(whole, silent)
    parts = make_spec(kind, "parts", **values)
    with pytest.raises(KeyboardInterrupt):
        train(parts, interrupting(2))
    assert not (parts.out / "training.toml").exists()
    result = train(parts, silent)
    assert result.is_complete
    assert_same_weights(whole.out, parts.out, "expert" if kind == "expert" else "generator")
    for one, other in zip(rows(whole.out), rows(parts.out), strict=True):
        assert one["loss"] == other["loss"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whoever_listens_for_a_signal_hears_of_it_when_the_run_is_saved(make_spec, number):
    spec, heard = make_spec("talker", "run"), []

    def listen(*arguments):
        heard.append((arguments[0], (spec.out / CHECKPOINT_NAME).exists()))

    before = signal.signal(number, listen)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(spec, interrupting(2, number))
    finally:
        signal.signal(number, before)
    assert heard == [(number, True)]


@pytest.mark.slow
def test_an_offline_student_resumes_too(make_spec, small_networks, teacher_file):
    whole, parts = (make_spec("student", name, teacher=str(teacher_file)) for name in ("whole", "parts"))
    train(whole, silent)
    with pytest.raises(KeyboardInterrupt):
        train(parts, interrupting(4))
    train(parts, silent)
    assert_same_weights(whole.out, parts.out)


@pytest.mark.slow
def test_a_run_that_broke_down_goes_on_from_its_checkpoint(make_spec):
    whole, parts = make_spec("talker", "whole"), make_spec("talker", "parts")
    train(whole, silent)
    with pytest.raises(OSError, match="broke down"):
        train(parts, failing(6))
    assert [row["step"] for row in rows(parts.out)] == ["2", "4", "6"]
    train(parts, silent)
    assert_same_weights(whole.out, parts.out)
    assert [row["step"] for row in rows(parts.out)] == ["2", "4", "6"]


class MakesFolder:
    """Makes a folder named `ran` when it is read from a pickle by a reader that runs code."""

    def __reduce__(self):
        return (os.mkdir, ("ran",))


@pytest.mark.parametrize("content", ["code", "half a file"])
def test_a_checkpoint_of_somebody_else_does_not_run_and_a_damaged_one_is_named(
    content, make_spec, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    spec = make_spec("talker")
    with pytest.raises(KeyboardInterrupt):
        train(spec, interrupting(2))
    path = spec.out / CHECKPOINT_NAME
    if content == "code":
        state = torch.load(path, weights_only=True)
        torch.save({**state, "extra": MakesFolder()}, path)
    else:
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RunFolderError, match=f"{CHECKPOINT_NAME} is damaged, or holds more"):
        train(spec, silent)
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_minutes_that_run_out_leave_weights_that_are_marked(make_spec):
    spec = make_spec("talker", max_minutes=1e-9)
    result = train(spec, silent)
    assert (result.steps, result.is_complete) == (1, False)
    assert (spec.out / "generator.safetensors").exists()
    assert train(make_spec("talker"), silent).is_complete


def test_a_loss_that_is_no_number_stops_the_run(make_spec):
    with pytest.raises(DataError, match="the loss is NaN at step"):
        train(make_spec("talker", mel_noise=1e39), silent)


def test_weights_of_another_variant_are_named(make_spec, teacher_file):
    with pytest.raises(
        LoadError, match=r"another variant: the first key that differs is 'face_encoder_blocks\.0"
    ):
        module_of(make_spec("talker", start=str(teacher_file)))


def test_a_student_without_teacher_and_a_teacher_without_expert_are_told(make_spec):
    with pytest.raises(SpecError, match="no teacher to distil from"):
        module_of(make_spec("student", sync="none"))
    with pytest.raises(SpecError, match="needs a lip-sync expert"):
        module_of(make_spec("teacher"))
    with pytest.raises(SpecError, match="add up to more than 1"):
        module_of(make_spec("teacher", sync_weight=0.6, gan_weight=0.6, sync="none"))


@pytest.mark.slow
def test_distill_is_what_the_entry_point_promises(make_spec, small_networks, teacher_file, tmp_path):
    values = plain_values(make_spec("student", teacher=str(teacher_file), steps=2))
    del values["kind"], values["out"]
    weights = distill(values, tmp_path / "student", silent)
    assert weights == tmp_path / "student" / "generator.safetensors"
    record = tomllib.loads((tmp_path / "student" / "training.toml").read_text())
    assert record["digests"]["extractor"] == "small, seed 0"
    assert len(record["digests"]["teacher_sha256"]) == 64


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.slow
def test_the_command_trains_and_reports(make_spec, tmp_path):
    values = plain_values(make_spec("talker"))
    lines = [
        f"{key} = {value}"
        for key, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    spec = tmp_path / "talker.toml"
    spec.write_text("\n".join(['kind = "talker"', "residual = false", *lines]))
    done = run("zoo", "train", spec, "--data", values["data"][0], "--out", tmp_path / "out", "--quiet")
    assert done.exit_code == 0, done.output
    assert "wrong_audio_psnr_db" in done.output


def test_the_command_names_a_key_that_is_none(tmp_path):
    spec = tmp_path / "talker.toml"
    spec.write_text("kind = 'talker'\nstep = 3")
    wrong = run("zoo", "train", spec, "--data", tmp_path, "--out", tmp_path / "out")
    assert wrong.exit_code == 2
    assert "did you mean 'steps'?" in wrong.output


def test_distill_asks_for_a_known_distiller(tmp_path):
    spec = tmp_path / "student.toml"
    spec.write_text('kind = "student"\ndistiller = "omgt"\n')
    wrong = run("distill", spec, "--out", tmp_path / "out")
    assert wrong.exit_code == 2
    assert "did you mean 'omgd'?" in wrong.output

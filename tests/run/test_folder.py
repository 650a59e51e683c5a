"""Run folders: the lock, other specs, foreign folders, reading."""

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qsens.core.errors import RunFolderError, SpecError
from qsens.core.layer import layers_from_csv, layers_to_csv
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import SweepSpec
from qsens.device.leftovers import process_mark
from qsens.run.decisions import read_decisions
from qsens.run.evidence import audit_path, load_audit
from qsens.run.floors import read_floors
from qsens.run.folder import RunFolder, read_layers, read_provenance, read_run_spec, read_study
from qsens.run.paths import RunPaths
from qsens.selection.precision_map_file import read_precision_map
from qsens.testing import example_layers, example_trial

LAYERS = (
    *example_layers(3),
    replace(
        example_layers(4)[3],
        name='odd "name", with\ncommas',
        output_shape=(1,),
        allowed=frozenset({Precision.FP32, Precision.FP16}),
    ),
)
SPEC = SweepSpec(seed=1)


def fill(path, spec=SPEC):
    with RunFolder.open(path, spec) as folder:
        folder.write_layers(LAYERS)
        folder.record_provenance({"model": "abc"})
        folder.journal.append(example_trial(0, PrecisionMap(Precision.FP32), LAYERS))


def test_a_run_is_read_back(tmp_path):
    fill(tmp_path / "run")
    study = read_study(tmp_path / "run")
    assert study.layers == LAYERS
    assert study.spec_digest == SPEC.digest
    assert [trial.number for trial in study.trials] == [0]
    assert read_run_spec(tmp_path / "run") == SPEC
    assert read_provenance(tmp_path / "run").contents == {"model": "abc"}


def test_a_folder_is_made_with_its_parts(tmp_path):
    with RunFolder.open(tmp_path / "a" / "run", SPEC) as folder:
        assert folder.spec_path.is_file()
        assert folder.journal_path.is_file()
        assert folder.evidence.is_dir()
        assert folder.samples.is_dir()
        assert folder.figures.is_dir()


def test_a_run_is_taken_up(tmp_path):
    fill(tmp_path)
    with RunFolder.open(tmp_path, replace(SPEC, threads=2, budget="3")) as folder:
        assert len(folder.journal.trials) == 1
    assert read_run_spec(tmp_path).budget == "3"


def test_a_study_can_be_read_while_the_run_is_locked(tmp_path):
    fill(tmp_path)
    with RunFolder.open(tmp_path, SPEC):
        assert len(read_study(tmp_path).trials) == 1


def test_another_spec_is_refused_with_its_differences(tmp_path):
    fill(tmp_path)
    other = replace(SPEC, seed=2, metrics=("psnr",))
    with pytest.raises(RunFolderError, match="seed: 1 -> 2") as caught, RunFolder.open(tmp_path, other):
        pass
    assert "metrics" in caught.value.message
    assert read_run_spec(tmp_path) == SPEC


def test_a_second_process_is_refused_and_told_who_writes(tmp_path):
    fill(tmp_path)
    code = f"""
from pathlib import Path
from qsens.core.errors import RunFolderError
from qsens.core.spec import SweepSpec
from qsens.run.folder import RunFolder
try:
    with RunFolder.open(Path({str(tmp_path)!r}), SweepSpec(seed=1)):
        print("opened")
except RunFolderError as error:
    print(error.message)
"""
    command = [sys.executable, "-c", code]
    with RunFolder.open(tmp_path, SPEC):
        refused = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "being written by another process" in refused
    assert f"process {os.getpid()} on" in refused
    opened = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert opened.strip() == "opened"


def test_the_lock_is_given_back_after_an_error(tmp_path):
    with pytest.raises(ValueError, match="boom"), RunFolder.open(tmp_path, SPEC):
        raise ValueError("boom")
    with RunFolder.open(tmp_path, SPEC):
        pass


KILLED = """
import os, signal, sys
from pathlib import Path
from qsens.device.leftovers import process_mark
from qsens.selection.precision_map_file import read_precision_map
from qsens.run.folder import RunFolder
from qsens.core.spec import SweepSpec
with RunFolder.open(Path(sys.argv[1]), SweepSpec(seed=1)) as folder:
    for place in (folder.path, folder.evidence, folder.samples, folder.figures):
        (place / f".half.npz.{process_mark()}.partial").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_half_written_goes_and_a_living_one_keeps_its_own(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False)
    assert len(list(tmp_path.rglob("*.partial"))) == 4
    assert (tmp_path / ".lock-owner").exists()
    mine = tmp_path / f".report.html.{process_mark()}.partial"
    mine.touch()
    fill(tmp_path)
    assert list(tmp_path.rglob("*.partial")) == [mine]
    assert not (tmp_path / ".lock-owner").exists()


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(RunFolderError, match=r"photo\.png"), RunFolder.open(tmp_path, SPEC):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["photo.png"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunFolderError, match="is a file"), RunFolder.open(tmp_path / "file", SPEC):
        pass


def test_changed_layers_are_refused_by_name(tmp_path):
    fill(tmp_path)
    changed = (LAYERS[0], replace(LAYERS[1], macs=1), *LAYERS[2:])
    with (
        RunFolder.open(tmp_path, SPEC) as folder,
        pytest.raises(RunFolderError, match=LAYERS[1].name),
    ):
        folder.write_layers(changed)
    with (
        RunFolder.open(tmp_path, SPEC) as folder,
        pytest.raises(RunFolderError, match="were 4, now there are 3"),
    ):
        folder.write_layers(LAYERS[:3])


def test_changed_contents_are_refused_and_changed_versions_told(tmp_path, monkeypatch):
    fill(tmp_path)
    with RunFolder.open(tmp_path, SPEC) as folder:
        assert folder.record_provenance({"model": "abc"}) == []
        with pytest.raises(RunFolderError, match="model changed"):
            folder.record_provenance({"model": "def"})
        monkeypatch.setattr("qsens.run.versions._installed", lambda name: "9.9")
        assert any(line.startswith("numpy: ") for line in folder.record_provenance({"model": "abc"}))


@pytest.mark.parametrize("missing", ["journal.jsonl", "spec.toml"])
def test_what_is_no_run_folder_cannot_be_read(tmp_path, missing):
    fill(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(RunFolderError, match="not a run folder"):
        read_study(tmp_path)


def test_an_absent_folder_cannot_be_read(tmp_path):
    with pytest.raises(RunFolderError, match="no folder"):
        read_study(tmp_path / "absent")


def test_a_run_without_layers_says_so(tmp_path):
    with RunFolder.open(tmp_path, SPEC):
        pass
    with pytest.raises(RunFolderError, match="holds no layers yet"):
        read_study(tmp_path)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=3, unique=True))
@example(["=1+1", "a\rb", "'@"])
def test_layers_survive_their_table(names):
    named = [replace(LAYERS[0], name=name, block=name, index=place) for place, name in enumerate(names, 9)]
    layers = (*LAYERS, *named)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "layers.csv")
        path.write_bytes(layers_to_csv(layers).encode())
        assert read_layers(path) == layers


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("macs,", "mac,", 1), "no column 'macs'"),
        (lambda text: text.replace("1x4x8x8", "1x4xx", 1).replace("1000", "many", 1), "line 2"),
        (lambda text: text.replace("fp16", "fp15", 1), "line 2.*fp15"),
        (lambda text: text[: text.index("1x4x8x8")], "line 2"),
        (lambda text: text.replace("1000", "-1000", 1), "line 2.*'-1000' is not a whole number"),
        (lambda text: text.replace("1000", "9" * 30, 1), "line 2.*is not a whole number"),
        (lambda text: text.replace("1000", "9" * 5000, 1), "line 2.*'99999.*is not a whole number"),
        (lambda text: text.replace("1000", "A" * 200_000, 1), "line 2 is no CSV"),
        (
            lambda text: text.replace("block0.conv1,", "block0.conv0,"),
            "2 layers have the name .block0.conv0.",
        ),
        (lambda text: text.splitlines(keepends=True)[0], "lists no layer"),
        (lambda text: "", "lists no layer"),
    ],
)
def test_a_damaged_table_of_layers_is_named(damage, message):
    with pytest.raises(RunFolderError, match=message):
        layers_from_csv(damage(layers_to_csv(LAYERS)), "layers.csv")


def test_a_damaged_provenance_is_named(tmp_path):
    fill(tmp_path)
    RunPaths(tmp_path).provenance_path.write_text("{", encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"provenance\.json"):
        read_provenance(tmp_path)


def test_a_trial_of_other_layers_is_named(tmp_path):
    fill(tmp_path)
    with RunFolder.open(tmp_path, SPEC) as folder:
        folder.journal.append(
            example_trial(1, PrecisionMap(Precision.FP16, (("other", Precision.INT8),)), LAYERS)
        )
    with pytest.raises(RunFolderError, match=r"line 3 of .*journal.jsonl names the layer 'other'"):
        read_study(tmp_path)


def test_a_journal_whose_trials_lack_one_is_read_but_not_taken_up(tmp_path):
    """The next trial would have the number of one that is there, and replace its evidence."""
    fill(tmp_path)
    with RunFolder.open(tmp_path, SPEC) as folder:
        folder.journal.append(example_trial(2, PrecisionMap(Precision.FP16), LAYERS))
    assert [trial.number for trial in read_study(tmp_path).trials] == [0, 2]
    wrong = pytest.raises(RunFolderError, match=r"line 3 of .* trial 2 stands where trial 1 belongs")
    with wrong as caught, RunFolder.open(tmp_path, SPEC):
        pass
    assert "delete that line and those after it" in caught.value.hint


def _pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _folder(path):
    path.unlink(missing_ok=True)
    path.mkdir()


@pytest.mark.parametrize("spoil", [
    lambda path: path.write_bytes(b"[" * 100_000 + b"]" * 100_000),
    lambda path: path.write_bytes(b"\xff\xfe{}"),
    lambda path: path.write_bytes(b"9" * 5000),
    lambda path: path.write_bytes(b"null"),
    lambda path: path.write_bytes(b'{"created": 1, "contents": {}, "versions": {}}'),
    lambda path: path.write_bytes(b'{"created": "x", "contents": [], "versions": {}}'),
    lambda path: path.write_bytes(b'{"created": "x", "contents": {"graph": null}, "versions": {}}'),
    lambda path: path.write_bytes(b'[{"text": 1, "trials": [0]}]'),
    lambda path: path.write_bytes(b'[{"text": "x", "trials": [1.5]}]'),
    lambda path: path.write_bytes(b'[{"text": "x", "trials": [99999999999999999999]}]'),
    lambda path: path.write_bytes(b'[{"layer": "a", "node": 3}]'),
    lambda path: path.write_bytes(b'{"against": {}, "floors": {"fid": {"label": "x", "value": NaN}}}'),
    lambda path: path.write_bytes(b'{"against": {"fid": 1}, "floors": {}}'),
    _pipe,
    _folder,
])  # fmt: skip
def test_a_damaged_file_of_the_folder_is_absent_or_named(tmp_path, spoil):
    """What can be made again counts as absent; what cannot is named."""
    fill(tmp_path)
    paths = RunPaths(tmp_path)
    for path in (paths.provenance_path, paths.decisions_path, audit_path(paths.evidence, 0)):
        spoil(path)
    spoil(paths.floors_path)
    assert read_decisions(paths.decisions_path) == ()
    assert load_audit(paths.evidence, 0) == {}
    assert read_floors(tmp_path) is None
    with pytest.raises(RunFolderError, match=r"cannot read .*provenance\.json"):
        read_provenance(tmp_path)
    spoil(paths.precision_map_path)
    with pytest.raises(SpecError, match=r"precision_map\.json"):
        read_precision_map(paths.precision_map_path)
    spoil(paths.layers_path)
    with pytest.raises(RunFolderError, match=r"layers\.csv"):
        read_study(tmp_path)

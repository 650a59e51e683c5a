"""Two processes that write one file at once, what a killed one left, and records that were changed."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qsens.core.errors import QsensWarning
from qsens.core.files import keep_record, kept_record, sealed, unsealed, write_atomically
from qsens.device.leftovers import process_mark


def mark_of_a_process_that_is_gone():
    script = "from qsens.device.leftovers import process_mark; print(process_mark())"
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.strip()


@dataclass(frozen=True)
class Counted:
    """A record that a run keeps."""

    counts: Mapping[str, float]


def test_a_record_that_was_changed_is_not_used_and_an_older_one_is(tmp_path):
    path = tmp_path / "record.json"
    record = Counted({"a": 0.1, "b": 2.0})
    keep_record(path, record)
    assert kept_record(Counted, path) == record
    path.write_text(path.read_text().replace("0.1", "0.2"))
    with pytest.warns(QsensWarning, match="record.json is not the file that the run wrote"):
        assert kept_record(Counted, path) is None
    path.write_text('{"counts": {"a": 0.3}}')
    assert kept_record(Counted, path) == Counted({"a": 0.3})


@settings(max_examples=20)
@given(st.dictionaries(st.text(max_size=3), st.floats() | st.integers() | st.lists(st.text(max_size=2))))
def test_a_seal_holds_for_whatever_json_holds(values):
    values.pop("seal", None)
    written = json.dumps(sealed(values))
    assert repr(unsealed(json.loads(written))) == repr(values)


def test_a_file_is_written_under_a_name_of_its_process(tmp_path):
    target = tmp_path / "manifest.toml"

    def write(file):
        file.write(b"mine")
        assert [path.name for path in tmp_path.iterdir()] == [f".{target.name}.{process_mark()}.partial"]

    write_atomically(target, write)
    assert target.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [target]


def test_what_killed_writers_left_goes_with_the_first_write_of_a_process(tmp_path):
    left = tmp_path / f".a.toml.{mark_of_a_process_that_is_gone()}.partial"
    of_one_at_work = tmp_path / f".a.toml.{process_mark()}.x.partial"
    for path in (left, of_one_at_work):
        path.write_text("half")
    write_atomically(tmp_path / "b.toml", b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "b.toml", of_one_at_work])


def test_a_write_does_not_read_the_folder_again(tmp_path, monkeypatch):
    write_atomically(tmp_path / "a.toml", b"first")

    def fail(*_):
        raise AssertionError("a folder of 100,000 files takes longer to read than a file to write")

    monkeypatch.setattr("os.scandir", fail)
    monkeypatch.setattr("os.listdir", fail)
    write_atomically(tmp_path / "b.toml", b"second")
    assert (tmp_path / "b.toml").read_bytes() == b"second"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_write_that_stops_leaves_the_earlier_version(error, tmp_path):
    (tmp_path / "a.toml").write_text("before")

    def fail(_):
        raise error

    with pytest.raises(error):
        write_atomically(tmp_path / "a.toml", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["a.toml"]
    assert (tmp_path / "a.toml").read_text() == "before"

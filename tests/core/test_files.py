"""Two processes that write one file at once, and what a killed one left."""

import subprocess
import sys

import pytest

from qsens.core.files import write_atomically
from qsens.device.leftovers import process_mark


def mark_of_a_process_that_is_gone():
    script = "from qsens.device.leftovers import process_mark; print(process_mark())"
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_file_is_written_under_a_name_of_its_process(tmp_path):
    target = tmp_path / "manifest.toml"

    def write(file):
        file.write(b"mine")
        assert [path.name for path in tmp_path.iterdir()] == [f".{target.name}.{process_mark()}.partial"]

    write_atomically(target, write)
    assert target.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path):
    left = tmp_path / f".a.toml.{mark_of_a_process_that_is_gone()}.partial"
    of_another_file = tmp_path / f".b.toml.{mark_of_a_process_that_is_gone()}.partial"
    of_one_at_work = tmp_path / f".a.toml.{process_mark()}.x.partial"
    for path in (left, of_another_file, of_one_at_work):
        path.write_text("half")
    write_atomically(tmp_path / "a.toml", b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "a.toml", of_another_file, of_one_at_work])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_write_that_stops_leaves_the_earlier_version(error, tmp_path):
    (tmp_path / "a.toml").write_text("before")

    def fail(_):
        raise error

    with pytest.raises(error):
        write_atomically(tmp_path / "a.toml", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["a.toml"]
    assert (tmp_path / "a.toml").read_text() == "before"

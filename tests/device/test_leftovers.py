"""What killed processes left is removed; what belongs to a living one stays."""

import os
import subprocess
import sys

import pytest

from qsens.device import leftovers
from qsens.device.leftovers import process_mark, remove_leftovers, temporary_folder

KILLED = """
import os, signal, sys
from qsens.device.leftovers import temporary_folder
with temporary_folder(sys.argv[1]) as folder:
    (folder / "model.onnx").write_bytes(b"large")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def not_yet_tidied():
    leftovers.tidy_once.cache_clear()


def test_a_folder_of_a_killed_process_goes_when_the_next_is_made(tmp_path, not_yet_tidied):
    subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False)
    assert [path.name for path in tmp_path.glob("*/*")] == ["model.onnx"]
    with temporary_folder(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert list(tmp_path.iterdir()) == []


def mark_of(number, start):
    head, _, _ = process_mark().rpartition("-")
    return f"{head.rpartition('-')[0]}-{number}-{start}"


@pytest.mark.parametrize(
    ("name", "is_kept"),
    [
        (f".report.html.{process_mark()}.partial", True),
        (f".report.html.{mark_of(os.getpid(), 1)}.partial", False),  # the number belongs to another by now
        (f".report.html.{mark_of(2**22 + 1, 5)}.partial", False),
        ("of-00000000-4194305-5", True),  # of another machine that shares the folder
        ("report.html", True),
        ("of-the-past-1-2", True),
    ],
    # The marks differ from one test process to the next.
    ids=["of this process", "number taken anew", "of a dead one", "elsewhere", "no mark", "no number"],
)
@pytest.mark.parametrize("is_folder", [True, False])
def test_only_what_carries_the_mark_of_a_process_that_is_gone_is_removed(name, is_kept, is_folder, tmp_path):
    path = tmp_path / name
    path.mkdir() if is_folder else path.touch()
    remove_leftovers(tmp_path)
    assert path.exists() is is_kept


def test_a_link_is_removed_and_what_it_names_stays(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / mark_of(2**22 + 1, 5)).symlink_to(kept)
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [kept]


def test_a_folder_that_is_not_there_is_tidy(tmp_path):
    remove_leftovers(tmp_path / "none")

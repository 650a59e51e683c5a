"""What a command writes: escapes in names never reach the terminal, and no character stops a command."""

import io
import os
import subprocess
import sys

import pytest

from qsens.cli.main import run
from qsens.cli.process import CommandProcess
from qsens.cli.shown_text import only_shown
from qsens.core.shown_text import steering
from qsens.python.progress import ProgressLine

HOSTILE = b"a\x1b]0;title\x07\x1b[2J\r\x9b\xff\xe2\x80\xae".decode(errors="surrogateescape")


def stream_of(encoding):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_both_streams_show_what_would_steer(monkeypatch, name, encoding):
    stream = stream_of(encoding)
    monkeypatch.setattr(sys, name, stream)
    with only_shown():
        print(f"{HOSTILE}\t∞ é\n{HOSTILE}", file=getattr(sys, name))
    assert getattr(sys, name) is stream
    written = stream.buffer.getvalue()
    assert not set(range(32)) & set(written) - set(b"\t\n")
    assert b"\x9b" not in written
    assert written.count(rb"a\x1b]0;title\x07\x1b[2J\r") == 2
    assert ("∞ é" if encoding != "latin-1" else r"\u221e é").encode(stream.encoding) in written


def test_a_name_on_the_command_line_is_shown(monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["qsens", "report", f"/nowhere/{HOSTILE}"])
    assert run(CommandProcess()) == 1
    message = capfd.readouterr().err
    assert r"no folder /nowhere/a\x1b]0;title\x07" in message
    assert "\x1b" not in message


@pytest.mark.parametrize(
    "language", [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_bytes_in_a_path_stop_no_command(tmp_path, language):
    folder = tmp_path / os.fsdecode(b"r\xff\x1bn")
    folder.mkdir()
    command = [sys.executable, "-m", "qsens", "select", folder]
    done = subprocess.run(command, env={**os.environ, **language}, capture_output=True, timeout=120)
    assert done.returncode == 1
    assert b"is not a run folder" in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"\x1b" not in done.stderr


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_progress_line_is_written_over_but_its_label_steers_nothing(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with only_shown(), ProgressLine() as progress:
        progress(1, 4, f"calibrating: {HOSTILE}")
    assert terminal.getvalue().startswith("\r\x1b[K[")
    assert "\x1b" not in terminal.getvalue().removeprefix("\r\x1b[K")


def test_the_stream_behind_is_the_one_that_was_there():
    stream = sys.stdout
    with only_shown(), only_shown():
        assert steering(sys.stdout) is stream
    assert sys.stdout is stream


def test_a_bar_never_goes_back_though_a_search_plans_more(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    with ProgressLine() as progress:
        progress(0, 2, "calibrating: ranges")
        for done, total in ((5, 10), (6, 40), (40, 40)):
            progress(done, total, "a map")
    bars = [line.partition("]")[0].count("#") for line in terminal.getvalue().splitlines()]
    assert bars == [0, 12, 12, 24]


def test_progress_says_how_many_of_how_many_and_what_is_to_go(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    clock = iter((0.0, 1.0, 1.0, 3.0))
    monkeypatch.setattr("qsens.python.progress.time.monotonic", lambda: next(clock))
    with ProgressLine() as progress:
        progress(0, 21, "all FP32")
        progress(0, 4, "yardsticks: FP32's pictures after JPEG 95")
        progress(1, 21, "all FP16")
        progress(2, 21, "all INT8")
        progress(21, 21, "finished")
    lines = [line.partition("] ")[2] for line in sys.stderr.getvalue().splitlines()]
    assert lines == [
        "0 of 21: all FP32",
        "0 of 4: yardsticks: FP32's pictures after JPEG 95",
        "1 of 21: all FP16",
        "2 of 21, 00:38 to go: all INT8",
        "21 of 21: finished",
    ]

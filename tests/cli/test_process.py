"""Signals end a command in order and a second one at once; closed outputs are quiet."""

import os
import signal
import subprocess
import sys

import pytest

# `qsens probe` with a body of the test's, in a process of its own.
SCRIPT = """
import atexit, importlib.abc, os, signal, sys, threading, time, types
import click
from qsens.__main__ import main

def send(number=signal.{name}):
    os.kill(os.getpid(), number)
    time.sleep(0)

class OnLoading(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "qsens.cli.main":
            send()

@click.command()
def probe():
    {body}

sys.modules["probing"] = types.SimpleNamespace(probe=probe)
sys.argv = ["qsens", "probe"]
{before}
main()
"""
# The command line knows the command of the test.
KNOWN = """
from qsens.cli.main import LazyGroup
table = LazyGroup.get_command
LazyGroup.get_command = lambda self, ctx, name: probe if name == "probe" else table(self, ctx, name)
LazyGroup.resolve_command = lambda self, ctx, args: ("probe", probe, args[1:])
"""

STOP_SAID = """
    from qsens.run.loop import StoppedError
    try:
        send()
    except KeyboardInterrupt:
        raise StoppedError("stopped after 3 maps", "go on") from None
"""
TWICE = """
    try:
        send()
    finally:
        while True:
            send()
"""
IN_A_DESTRUCTOR = """
    class Closing:
        def __del__(self):
            send()
    closing = Closing()
    del closing
    while True:
        time.sleep(0.01)
"""
LEAVES_SOMETHING_HALF_OPEN = """
    class Archive:
        def __del__(self):
            raise ValueError("seek of closed file")
    def write():
        archive = Archive()
        send()
    write()
"""
BECOMES_ANOTHER = """
    try:
        send()
    except KeyboardInterrupt:
        raise ImportError("initialization failed") from None
"""
SWALLOWED = """
    try:
        send()
    except KeyboardInterrupt:
        pass
"""
AT_EXIT = "atexit.register(send)"
WHILE_JOINING = """
    def last():
        while threading.main_thread().is_alive():
            time.sleep(0.001)
        send()
        threading.Event().wait()
    threading.Thread(target=last).start()
"""
IN_NATIVE_CODE = """
    import ctypes
    lock = ctypes.CDLL(None).pthread_mutex_lock
    mutex = ctypes.create_string_buffer(64)
    def press():
        while True:
            send()
            time.sleep({pause})
    threading.Thread(target=press, daemon=True).start()
    lock(mutex)
    lock(mutex)
"""
IN_A_FORK = """
    child = os.fork()
    if child == 0:
        signal.pause()
    time.sleep(0.1)
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    time.sleep(0.5)
"""
CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


def run_probe(body, name, before=""):
    return run_script(body, name, f"{before}\n{KNOWN}")


def run_script(body, name, before):
    script = SCRIPT.format(body=body, name=name, before=before)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_a_signal_ends_a_command_with_its_code_and_is_named(name, code):
    result = run_probe(STOP_SAID, name)
    words = "Stopped after 3 maps" if name == "SIGINT" else f"Stopped by {name} after 3 maps"
    assert (result.returncode, result.stderr) == (code, f"{words}\nHint: go on\n")


# Each starts Python anew.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param("send()", "Stopped by SIGTERM\n", id="anywhere"),
        pytest.param(TWICE, "", id="again and again"),
        pytest.param(IN_A_DESTRUCTOR, "Stopped by SIGTERM\n", id="where Python drops exceptions"),
        pytest.param(LEAVES_SOMETHING_HALF_OPEN, "Stopped by SIGTERM\n", id="in the middle of a write"),
        pytest.param(BECOMES_ANOTHER, "Stopped by SIGTERM\n", id="as another exception"),
        pytest.param(SWALLOWED, "", id="swallowed"),
        pytest.param(AT_EXIT, "", id="at exit"),
        pytest.param(WHILE_JOINING, "", id="while threads are joined"),
    ],
)
def test_a_signal_at_a_bad_moment_ends_without_a_traceback(body, said):
    result = run_probe(body, "SIGTERM")
    assert (result.returncode, result.stderr, result.stdout) == (143, said, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pause", "before"),
    [
        pytest.param(0.1, "", id="again and again"),
        pytest.param(60, "qsens.cli.process.PATIENCE_S = 0.1", id="once"),
    ],
)
def test_a_signal_ends_a_command_that_native_code_keeps_from_hearing_it(pause, before):
    """ONNX Runtime may hang with as many threads as one asks for."""
    result = run_probe(IN_NATIVE_CODE.format(pause=pause), "SIGTERM", f"import qsens.cli.process\n{before}")
    assert (result.returncode, result.stderr, result.stdout) == (143, "Stopped by SIGTERM\n", "")


def test_a_signal_to_a_fork_ends_the_fork_alone():
    result = run_probe(IN_A_FORK, "SIGTERM", "import qsens.cli.process; qsens.cli.process.PATIENCE_S = 0.1")
    assert (result.returncode, result.stderr, result.stdout) == (0, "", "-15\n")


@pytest.mark.parametrize(("name", "said"), [("SIGINT", "Stopped\n"), ("SIGHUP", "Stopped by SIGHUP\n")])
def test_a_signal_while_the_command_line_loads(name, said):
    result = run_script("print('ran')", name, "sys.meta_path.insert(0, OnLoading())")
    assert (result.returncode, result.stderr, result.stdout) == (CODES[name], said, "")


def test_a_signal_that_is_ignored_at_the_start_stays_ignored():
    result = run_probe("send(); print('went on')", "SIGHUP", "signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    assert (result.returncode, result.stderr, result.stdout) == (0, "", "went on\n")


def run_shell(command):
    return subprocess.run(
        ["/bin/sh", "-c", f'"$0" -m qsens {command}', sys.executable],
        capture_output=True,
        text=True,
        timeout=60,
    )


OF_A_COMMAND = ["-c", SCRIPT.format(body="click.echo('{}')", name="SIGTERM", before=KNOWN)]
PRINTED_AT_THE_END = ["-c", SCRIPT.format(body="print('{}')", name="SIGTERM", before=KNOWN)]


@pytest.mark.parametrize(
    "arguments",
    [["-m", "qsens", "--help"], ["-m", "qsens", "sweep", "--help"], OF_A_COMMAND, PRINTED_AT_THE_END],
)
def test_an_output_whose_reader_is_gone_is_quiet(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, *arguments]
    try:
        result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    finally:
        os.close(writer)
    assert (result.returncode, result.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("--help >&-", 0, ""),
        ("sweep --help >&-", 0, ""),
        ("sweep --nonsense 2>&-", 2, ""),
        ("swep 2>/dev/full", 2, ""),
        ("--help >/dev/full", 1, "Error: no space left\n"),
        ("sweep --help >/dev/full", 1, "Error: no space left\n"),
    ],
)
def test_an_output_that_is_closed_or_full_makes_no_traceback(command, code, said):
    result = run_shell(command)
    assert result.returncode == code
    assert result.stdout == ""
    assert result.stderr.startswith(said)
    assert "Traceback" not in result.stderr
    assert "ignored" not in result.stderr


def test_a_file_does_not_take_the_number_of_a_closed_output():
    """What a library prints to stderr would be written into it."""
    body = "file = open(os.devnull); click.echo(file.fileno())"
    script = SCRIPT.format(body=body, name="SIGTERM", before=KNOWN)
    command = [sys.executable, "-c", script]
    result = subprocess.run(
        ["/bin/sh", "-c", '"$@" 2>&-', "sh", *command], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0
    assert int(result.stdout) > 2

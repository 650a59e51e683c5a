"""A device over an `ssh` that is made up: what travels, what a lost connection keeps, what is tidied up."""

import sys
from pathlib import Path

import pytest
from fake_ssh import FakeSsh

from qsens.core.errors import SshError
from qsens.deploy import device_script
from qsens.deploy.ssh import Device

JOB = """
import json, os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
asked = json.load(sys.stdin)
try:
    print(json.dumps({"asked": asked, "home": os.listdir(".")}), flush=True)
    time.sleep(60 * asked["waits"])
except KeyboardInterrupt:
    print(json.dumps({"kept": 1}), flush=True)
sys.exit(asked["code"])
"""
CODE = {"qsens/__init__.py": b"", "qsens/device/__init__.py": b"", "qsens/device/job.py": JOB.encode()}


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    return FakeSsh(tmp_path, monkeypatch)


def device():
    return Device("me@there", sys.executable)


def test_files_and_jobs_go_over_one_connection_that_leaves_nothing(ssh, tmp_path):
    (tmp_path / "large").write_bytes(b"x" * 3_000_000)
    with device() as there:
        assert there.found(["json", "no_such_module"]) == ["json"]
        there.copy("code", CODE)
        there.copy("data", {"large": tmp_path / "large"})
        (answer,) = there.run({"waits": 0, "code": 0})
        assert answer.value["asked"] == {"waits": 0, "code": 0}
        assert {"code", "data"} <= set(answer.value["home"])
        with pytest.raises(SshError, match="it ended with 3"):
            list(there.run({"waits": 0, "code": 3}))
    assert ssh.calls.read_text() == "me@there\n"
    assert ssh.left() == []


def test_a_lost_connection_says_what_stays_and_the_next_one_sends_the_rest(ssh, tmp_path):
    files = {"first": b"a" * 200_000, "second": b"b" * 200_000}
    ssh.answer('stdbuf -o0 head -c 320000 | sh -c "$3"; exit 255')
    with pytest.raises(SshError, match=r"was lost; \S+ stays there") as lost:
        copied(files)
    (folder,) = ssh.left()
    assert folder in lost.value.message
    ssh.answer(f'tee {tmp_path}/sent | sh -c "$3"; exit')
    with device() as there:
        there.copy("data", files)
        assert there.folder.endswith(folder)
    sent = (tmp_path / "sent").read_bytes()
    assert sent.count(b"a") < 2_000 < sent.count(b"b") < 180_000
    assert ssh.left() == []


def interrupted_at(call, receive):
    """Answers, but a Ctrl-C at one of the calls."""
    calls = []

    def received():
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return receive()

    return received


def test_ctrl_c_stops_the_job_whose_last_answers_come_before_it(ssh, monkeypatch):
    answers = []
    with device() as there:
        there.copy("code", CODE)
        monkeypatch.setattr(there, "_receive", interrupted_at(2, there._receive))
        with pytest.raises(KeyboardInterrupt):
            answers += there.run({"waits": 1, "code": 130})
    assert answers[-1].value == {"kept": 1}
    assert ssh.left() == []


def test_ctrl_c_while_files_are_copied_leaves_nothing(ssh, monkeypatch):
    with device() as there:
        monkeypatch.setattr(there, "_stops_copying", True)
        monkeypatch.setattr(there, "_receive", interrupted_at(2, there._receive))
        with pytest.raises(KeyboardInterrupt):
            there.copy("data", {"large": b"x" * 3_000_000})
    assert ssh.left() == []


def test_a_full_device_is_said_and_tidied_up(ssh, monkeypatch):
    monkeypatch.setattr("qsens.deploy.ssh._digest_and_size", lambda content: ("0" * 64, 8 * 10**15))
    with pytest.raises(SshError, match=r"no space left: 8000000000\.0 MB are needed") as full:
        copied({"large": b""})
    assert "free some space there" in full.value.hint
    assert ssh.left() == []


def copied(files):
    with device() as there:
        there.copy("data", files)


def test_a_folder_that_cannot_be_removed_is_named(ssh, tmp_path):
    there = device().__enter__()
    Path(there.folder).rename(tmp_path / "moved")
    Path(there.folder).symlink_to(tmp_path / "moved")
    with pytest.raises(SshError, match="could not be removed"):
        there.__exit__(None, None, None)


def test_folders_in_use_and_of_others_are_left_alone(tmp_path):
    used, lock = device_script.take_folder(tmp_path)
    second, other = device_script.take_folder(tmp_path)
    assert used != second
    lock.close()
    other.close()
    taken, last = device_script.take_folder(tmp_path)
    assert taken in (used, second)
    assert list(tmp_path.iterdir()) == [taken]
    last.close()


def test_a_line_without_end_ends_the_connection(ssh, monkeypatch):
    monkeypatch.setattr("qsens.deploy.ssh._LONGEST_LINE", 1000)
    ssh.answer("echo qsens-device 3 9; exec yes {} | tr -d '\\n'")
    with pytest.raises(SshError, match="was lost"), device():
        pass

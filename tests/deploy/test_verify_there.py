"""`qsens verify --on`: a bundle checked over SSH, on an `ssh` that is made up and on one of its own."""

import json
import sys

import pytest
from click.testing import CliRunner
from fake_ssh import FakeSsh

from qsens.cli.main import main
from qsens.python import ship


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    return FakeSsh(tmp_path, monkeypatch)


FAILED = r'{"failed": "no \u001b[2Jspace"}'


def verify(bundle, *arguments, on="me@there"):
    options = ("--on", on, "--python", sys.executable, "--repeats", "3", *map(str, arguments))
    return CliRunner().invoke(main, ["verify", str(bundle), *options])


def test_a_bundle_is_checked_there_and_nothing_is_left(bundle, ssh, tmp_path):
    done = verify(bundle, "--json", "--latency-json", tmp_path / "times.json")
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["ok"], report["host"], report["bundle"]) == (True, "me@there", str(bundle))
    assert json.loads((tmp_path / "times.json").read_text())["measurements"][0]["runs"] == 3
    assert ssh.calls.read_text() == "me@there\n"  # one connection
    assert ssh.left() == []


def test_a_bundle_that_is_right_ends_with_what_to_do_with_it(bundle):
    done = CliRunner().invoke(main, ["verify", str(bundle), "--no-latency"])
    assert f"Next: copy {bundle} to its device" in done.stdout
    assert done.stdout.endswith(f"{bundle / 'README.md'} shows how to run it.\n")


def test_pictures_that_are_off_there_end_with_4(bundle, ssh):
    from test_verify import change, expect_int8_of_up

    change(bundle, "layers", expect_int8_of_up)
    done = verify(bundle, "--no-latency")
    assert done.exit_code == 4
    assert "up runs in" in done.stderr
    found = ship.verify(bundle, repeats=0, on="me@there", python=sys.executable)
    assert "up runs in" in found.problems[0]
    assert "MISMATCH" in repr(found)
    assert ssh.left() == []


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("echo 'ssh: connect to host there port 22: Connection timed out' >&2; exit 255", "asleep"),
        ("echo 'Host key verification failed.' >&2; exit 255", "ssh me@there"),
        ("exit 127", "has no"),
        ("echo qsens-device 3 6; exec cat", "Python 3.6"),
        (f"echo qsens-device 3 9; echo '{FAILED}'; exec cat >/dev/null", r"\x1b[2Jspace"),
        ("echo qsens-device 3 9; echo '[[['; exec cat >/dev/null", "no answer"),
    ],
)
def test_a_device_that_cannot_is_a_sentence_and_a_hint(bundle, ssh, before, said):
    ssh.answer(before)
    done = verify(bundle)
    assert done.exit_code == 1
    assert said in done.stderr, done.stderr
    assert "Hint: " in done.stderr
    assert "\x1b" not in done.stderr


def test_a_host_that_would_be_an_option_of_ssh_is_refused(bundle, ssh):
    done = verify(bundle, on="-oProxyCommand=true")
    assert (done.exit_code, ssh.calls.exists()) == (1, False)

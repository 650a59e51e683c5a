"""`qsens bench --on`, over an `ssh` that is made up."""

import json
import sys

import pytest
from click.testing import CliRunner
from fake_ssh import FakeSsh

from qsens.cli.main import main
from qsens.core.errors import SshError
from qsens.deploy.bench_there import BenchThere
from qsens.device.plain_values import PlainValue


def test_the_map_of_a_bundle_is_measured_there(bundle, tmp_path, monkeypatch):
    ssh, file = FakeSsh(tmp_path, monkeypatch), tmp_path / "times.json"
    wishes = ("--python", sys.executable, "--repeats", "3", "--latency-json", str(file))
    done = CliRunner().invoke(main, ["bench", str(bundle), "--on", "me@there", *wishes])
    assert done.exit_code == 0, done.stderr
    (entry,) = json.loads(file.read_text())["measurements"]
    assert (entry["label"], entry["batch"], entry["runs"]) == ("MIX", 3, 3)
    assert set(ssh.left()) == {"qsens-bench.lock"}


class MadeUp:
    """A device that answers, and is lost."""

    host = "me@there"

    def __init__(self, *answers):
        self.answers = answers

    def run(self, job):
        yield from map(PlainValue, self.answers)
        raise SshError("the connection was lost", "again")


def measured(*answers):
    work = BenchThere(MadeUp(*answers), 3, layers=False)
    work.measure([], lambda *_: None, print)
    return work.measured


def document(label):
    entry = {
        **{"label": label, "map": {"default": "fp32", "overrides": {}}, "map_digest": "0" * 16},
        **{"flavour": "u8", "batch": 1, "runs": 3, "median_ms": 1.0, "p25_ms": 1.0, "p75_ms": 1.0},
        **{"size_bytes": 1, "peak_memory_bytes": None, "energy_mj": None, "layers": []},
    }
    device, runtime = {"name": "board"}, {"name": "openvino", "version": "1"}
    about = {"schema_version": 1, "device": device, "runtime": runtime, "graph": "0" * 16, "layers": ["a"]}
    return {**about, "measurements": [entry]}


def test_what_a_lost_device_measured_is_kept():
    found = measured({"latency": document("FP32")}, {"latency": document("INT8")})
    assert [entry["label"] for entry in found.document["measurements"]] == ["FP32", "INT8"]
    assert "lost" in found.lost.message


def test_answers_that_are_no_times_are_refused():
    with pytest.raises(SshError, match="answers no times"):
        measured({"latency": {"schema_version": 1}})

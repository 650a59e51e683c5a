"""The scripts for a GPU machine: they stop where a GPU is needed, and run to their end over the fake."""

import csv
import json
import sys
from pathlib import Path

import pytest
from fake_cuda import FakeCudaLibrary
from fake_tensorrt import fake_tensorrt

from qsens.device import cuda_memory
from qsens.device.latency import read_latency

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "gpu"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def script(monkeypatch, tmp_path):
    """Imports a script, with its results in a temporary folder and these arguments."""

    def script(name, *arguments):
        monkeypatch.syspath_prepend(str(SCRIPTS))
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        module = __import__(name)
        monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
        (tmp_path / "results").mkdir()
        return module

    return script


@pytest.fixture
def small_demo(monkeypatch):
    """The demo's spec, which `against_simulator` takes, with few samples to calibrate on and no repair."""
    demo = pytest.importorskip("qsens.zoo.talker.demo", reason="the zoo is optional").TalkerDemo
    values = demo.spec_values

    def small(self, folder):
        return {**values(self, folder), "calibration_samples": 16, "repair": "none"}

    monkeypatch.setattr(demo, "spec_values", small)


@pytest.fixture
def gpu(monkeypatch):
    """A fake TensorRT on a fake GPU."""
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt("11.4.0"))
    monkeypatch.setattr(cuda_memory, "_load_library", FakeCudaLibrary)
    monkeypatch.setattr("qsens.engines.tensorrt.driver_problem", lambda: None)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("golden", ("--generators", "srresnet-small")),
        ("latency", ("--generators", "student")),
        ("against_simulator", ("--images", "8", "--step", "12")),
    ],
)
def test_without_a_gpu_a_script_says_what_it_needs(script, small_demo, monkeypatch, capsys, name, arguments):
    monkeypatch.setattr("qsens.engines.tensorrt.driver_problem", lambda: "no NVIDIA driver on this machine")
    with pytest.raises(SystemExit) as stopped:
        script(name, *arguments).main()
    assert stopped.value.code == 3
    assert "Everything before the first engine is in order" in capsys.readouterr().out


def test_latency_writes_a_file_for_each_generator(script, gpu, tmp_path):
    script("latency", "--generators", "srresnet-small", "--batches", "1", "2", "--repeats", "3").main()
    (path,) = (tmp_path / "results").iterdir()
    measured = read_latency(path)["measurements"]
    assert sorted({entry["label"] for entry in measured}) == ["FP16", "FP32", "INT8", "MIX"]
    assert {entry["batch"] for entry in measured} == {1, 2}


def test_scores_of_both_are_written_side_by_side(script, small_demo, gpu, tmp_path):
    script("against_simulator", "--images", "8", "--step", "12").main()
    (path,) = (tmp_path / "results").iterdir()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["map"] for row in rows} >= {"fp32", "forward 0", "forward 23", "backward 12"}
    psnr = next(row for row in rows if row["map"] == "forward 12" and row["metric"] == "psnr")
    assert abs(float(psnr["difference"])) < 1.0
    assert not any(row["error"] for row in rows)


def test_golden_texts_of_the_inspector_are_kept(script, gpu, tmp_path):
    script("golden", "--generators", "srresnet-small", "--shares", "0.5").main()
    (folder,) = (tmp_path / "results").iterdir()
    (path,) = folder.iterdir()
    assert path.name == "inspector-srresnet-small-strong-0.5.json"
    assert json.loads(path.read_text())["Layers"]

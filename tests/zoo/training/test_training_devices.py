import os
import subprocess
import sys
import tomllib

import pytest
import tomli_w
import torch
from safetensors.torch import load_file

from qsens.zoo.training.kinds import train
from qsens.zoo.training.spec_reading import plain_values


def run_with_processes(spec, tmp_path):
    """Train through the command line, where Lightning can start further processes."""
    file = tmp_path / "several.toml"
    file.write_text(tomli_w.dumps(plain_values(spec)))
    command = [sys.executable, "-m", "qsens", "zoo", "train", str(file), "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.slow
def test_two_processes_share_the_steps(make_spec, tmp_path):
    done = run_with_processes(make_spec("talker", devices=2), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("6 steps") == 1
    record = tomllib.loads((tmp_path / "run" / "training.toml").read_text())
    assert record["training"]["samples_seen"] == 2 * 2 * 6
    assert record["training"]["is_complete"]


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 1, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_talker_trains_on_a_gpu(make_spec, precision):
    spec = make_spec("talker", accelerator="gpu", precision=precision)
    assert train(spec, lambda *_: None).is_complete
    weights = load_file(spec.out / "generator.safetensors")
    assert all(bool(value.isfinite().all()) for value in weights.values())


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two NVIDIA GPUs")
def test_two_gpus_share_the_steps(make_spec, tmp_path):
    done = run_with_processes(make_spec("talker", devices=2, accelerator="gpu"), tmp_path)
    assert done.returncode == 0, done.stderr
    record = tomllib.loads((tmp_path / "run" / "training.toml").read_text())
    assert record["training"]["samples_seen"] == 2 * 2 * 6

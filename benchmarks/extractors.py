"""Images a second of the feature extractors: ONNX Runtime as qsens runs them, and the same networks in torch.

python benchmarks/extractors.py [--size 256] [--images 32] [--threads 1] [--repeats 3]
Inception gets random weights; its speed does not depend on them.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from qsens.scoring import lite0
from qsens.scoring.extractors import load_extractor
from qsens.scoring.inception import load_inception
from qsens.scoring.weights import load_weights
from qsens.zoo.training.pytorch_fid import published_state, untrained_inception

TORCH_BATCH = 32
Run = Callable[[np.ndarray[Any, Any]], Any]


def main() -> None:
    """Print one line for each extractor and runtime."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    shape = (options.images, 3, options.size, options.size)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, {options.threads} threads, ", end="")
    print(f"onnxruntime {onnxruntime.__version__}, torch {torch.__version__}, {shape} uint8\n")
    header = ("extractor", "onnxruntime img/s", "torch img/s", "speed-up", "largest difference")
    print("{:<12} {:>18} {:>12} {:>9} {:>19}".format(*header))
    for name, runs in (("lite0", lite0_runs), ("inception", inception_runs)):
        ours, theirs = runs(options.threads)
        rates = rates_in_turns((ours, theirs), images, options.repeats)
        difference = np.abs(ours(images[:2]) - theirs(images[:2])).max() / np.abs(theirs(images[:2])).max()
        print(
            f"{name:<12} {rates[0]:>18.1f} {rates[1]:>12.1f} {rates[0] / rates[1]:>8.1f}x {difference:>19.1e}"
        )


def lite0_runs(threads: int) -> tuple[Run, Run]:
    """The embedded extractor and the network of the package `efficientnet-lite-pytorch`."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0").eval()
    state = {name: torch.from_numpy(values) for name, values in load_weights(lite0.locate_weights()).items()}
    network.load_state_dict(state)

    def features(batch: torch.Tensor) -> torch.Tensor:
        resized = torch.nn.functional.interpolate(batch, (224, 224), mode="bilinear", antialias=True)
        maps = network.extract_features((resized - 127) / 128)
        return maps.mean((2, 3))

    return load_extractor("lite0", threads=threads).run, in_batches(features)


def inception_runs(threads: int) -> tuple[Run, Run]:
    """pytorch-fid's network through ONNX Runtime and as it is."""
    module = untrained_inception()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "random.pth"
        torch.save(published_state(module), weights)
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        ours = load_inception(weights, threads=threads, expected_prefix=digest).run
    return ours, in_batches(lambda batch: module(batch / 255)[0][:, :, 0, 0])


def in_batches(features: Callable[[torch.Tensor], torch.Tensor]) -> Run:
    """A torch network on uint8 arrays, in pytorch-fid's manner."""

    def run(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        with torch.no_grad():
            parts = [
                features(torch.from_numpy(images[start : start + TORCH_BATCH]).float()).numpy()
                for start in range(0, len(images), TORCH_BATCH)
            ]
        return np.concatenate(parts)

    return run


def rates_in_turns(runs: tuple[Run, ...], images: np.ndarray[Any, Any], repeats: int) -> list[float]:
    """Median images a second of each, one of each in turn after a first run that is not counted."""
    seconds: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run(images[:2])
    for _ in range(repeats):
        for index, run in enumerate(runs):
            start = time.perf_counter()
            run(images)
            seconds[index].append(time.perf_counter() - start)
    return [len(images) / statistics.median(times) for times in seconds]


if __name__ == "__main__":
    main()

"""Plug-ins that take their time, so that a sweep of a tiny generator can be stopped in the middle."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from qsens.core.interfaces import Measurement
from qsens.core.trial import Score

METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"


def install(folder: Path, name: str, entry_points: str) -> None:
    """Write what importlib takes for an installed distribution into a folder that is on the path."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(METADATA.format(name=name))
    (info / "entry_points.txt").write_text(entry_points)


class MeanLevel:
    """Mean grey level, after `MEAN_LEVEL_S` seconds."""

    name = "mean-level"
    lower_is_better = True
    needs_features = False
    needs_reference = False

    def label(self, context):
        return self.name

    def start(self, context):
        return _MeanLevel(context)


class _MeanLevel:
    def __init__(self, context):
        self._context = context
        self._levels = []

    def update(self, batch):
        time.sleep(float(os.environ.get("MEAN_LEVEL_S", "0")))
        self._levels += batch.images.mean(axis=(1, 2, 3)).tolist()

    def compute(self):
        value = float(np.mean(self._levels))
        score = Score(
            MeanLevel.name, value, len(self._levels), self._context.evaluation_digest, lower_is_better=True
        )
        return Measurement(score, None)


class SlowSamples:
    """Seeded images, each after `SAMPLE_S` seconds."""

    name = "slow"
    digest = "slow-samples-1"
    clusters = None

    def __init__(self, count):
        self._count = count

    def __len__(self):
        return self._count

    def sample(self, index):
        time.sleep(float(os.environ.get("SAMPLE_S", "0")))
        return {"image": np.random.default_rng(index).random((3, 16, 16), dtype=np.float32)}

    def describe(self):
        return {}


def slow_samples(*, inputs, seed, count):
    """The data set factory that `--calibration slow_plugins:slow_samples` names."""
    return SlowSamples(count or 8)


def start_qsens(*arguments: object, site: Path, **environment: str) -> subprocess.Popen[str]:
    """A real qsens process that finds this module and the distributions in `site`."""
    path = os.pathsep.join([str(site), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "qsens", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs, and so these tests in one, with Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )

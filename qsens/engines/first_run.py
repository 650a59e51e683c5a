"""A graph run once in a process of its own, so that a runtime whose kernels crash ends that process alone."""

import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from qsens.core.errors import BuildError
from qsens.core.layer import Layer
from qsens.device.bundle_files import Bundle

Array = np.ndarray[Any, np.dtype[Any]]
# Kernels for volumes are tried least: OpenVINO 2026.4 crashes in INT8 convolutions with five axes.
_USUAL_AXES = 4
_PROGRAM = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
bundle, feed = pickle.load(sys.stdin.buffer)
from qsens.device.open_engine import open_engine
open_engine(bundle).run(feed)
"""


def may_crash(layers: tuple[Layer, ...]) -> bool:
    """Whether the layers are of a kind that runtimes were seen to crash on."""
    return any(len(layer.output_shape) > _USUAL_AXES for layer in layers)


def refuse_crash(bundle: Bundle, feed: Mapping[str, Array]) -> None:
    """Build a bundle's engine and run it once elsewhere.

    Whatever else is wrong with it is said where the engine is built here.

    Raises:
        BuildError: if that process is ended by a signal.
    """
    sent = pickle.dumps(list(sys.path)) + pickle.dumps((bundle, dict(feed)))
    # The program is the one above, and what it reads was written here.
    ended = subprocess.run([sys.executable, "-c", _PROGRAM], input=sent, capture_output=True, check=False)
    if ended.returncode < 0:
        raise BuildError(
            f"{bundle.runtime} crashed ({signal.Signals(-ended.returncode).name}) when it ran this graph",
            "take another target, or keep layers from INT8 with --pin NAME=fp32; report it to its authors",
        )

"""Reads the state of a mouth (open, width, round) off pictures of a face: a small network in NumPy."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsens.core.errors import LoadError, ScoreError
from qsens.device.errors import reason_of

SIZE = 96
ROWS = slice(44, 92)
COLUMNS = slice(16, 80)
STATES = ("open", "width", "round")
LEAST_SPREAD = 8.0
"""Grey levels added to a picture's spread, so that an empty picture is not blown up to noise."""
SHIPPED = Path(__file__).with_name("mouth_reader.npz")
PICTURES_AT_ONCE = 64
FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class MouthReader:
    """A network of 3x3 convolutions with stride 2 and two dense layers, ReLU between them.

    `kernels`: float32 (3, 3, I, O) and (O,) by layer; `dense`: float32 (I, O) and (O,), the last with one
    output a state. `facts`: how it was fitted and how well it reads pictures it has not seen.
    """

    kernels: tuple[tuple[FloatArray, FloatArray], ...]
    dense: tuple[tuple[FloatArray, FloatArray], ...]
    facts: Mapping[str, Any]

    def read(self, images: NDArray[np.uint8]) -> FloatArray:
        """States (N, 3), about 0 to 1, of faces uint8 (N, 3, 96, 96), 0 to 255, RGB.

        Raises:
            ScoreError: for pictures of another shape.
        """
        if images.ndim != 4 or images.shape[1:] != (3, SIZE, SIZE):
            raise ScoreError(
                f"pictures of shape {images.shape}: the mouth reader reads (N, 3, {SIZE}, {SIZE})",
                "it was made for the faces of Wav2Lip at 96 by 96 pixels",
            )
        starts = range(0, len(images), PICTURES_AT_ONCE)
        parts = [self._read(mouth_input(images[start : start + PICTURES_AT_ONCE])) for start in starts]
        return np.concatenate([np.zeros((0, len(STATES)), np.float32), *parts])

    @cached_property
    def identity(self) -> str:
        """Names these weights: readings of readers with different identities must not be compared."""
        arrays = [array for pair in (*self.kernels, *self.dense) for array in pair]
        digest = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))
        return f"mouth-reader/{digest.hexdigest()[:16]}"

    def _read(self, features: FloatArray) -> FloatArray:
        for kernel, bias in self.kernels:
            features = np.maximum(_halving_convolution(features, kernel) + bias, 0.0)
        features = features.reshape(len(features), -1)
        for weight, bias in self.dense[:-1]:
            features = np.maximum(features @ weight + bias, 0.0)
        weight, bias = self.dense[-1]
        return np.asarray(features @ weight + bias, dtype=np.float32)


def mouth_input(images: NDArray[np.uint8]) -> FloatArray:
    """Lower faces (N, 48, 64, 3) as the reader takes them, from faces uint8 (N, 3, 96, 96) RGB.

    Each picture loses its mean colour and is divided by its spread, so that light and skin count less.
    """
    crops = images[:, :, ROWS, COLUMNS].transpose(0, 2, 3, 1).astype(np.float32)
    centred = crops - crops.mean(axis=(1, 2), keepdims=True)
    spread = np.sqrt(np.square(centred).mean(axis=(1, 2, 3), keepdims=True)) + np.float32(LEAST_SPREAD)
    return np.asarray(centred / spread, dtype=np.float32)


@cache
def shipped_reader() -> MouthReader:
    """The reader that comes with qsens, fitted on the procedural corpus."""
    return load_reader(SHIPPED)


def load_reader(path: Path) -> MouthReader:
    """Read what `save_reader` wrote.

    Raises:
        LoadError: if the file is missing or is something else.
    """
    try:
        with np.load(path, allow_pickle=False) as kept:
            arrays = {name: np.asarray(kept[name]) for name in kept.files}
            facts = json.loads(str(arrays.pop("facts")))
        return MouthReader(_pairs(arrays, "kernel"), _pairs(arrays, "dense"), facts)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise LoadError(
            f"{path} holds no mouth reader: {reason_of(error)}",
            "fit one with: python -m qsens.zoo.metrics.fit_mouth_reader --data CORPUS --out FILE",
        ) from None


def save_reader(path: Path, reader: MouthReader) -> None:
    """Write the weights as float16 with their facts, always the same bytes for the same reader."""
    arrays: dict[str, Any] = {"facts": np.array(json.dumps(dict(reader.facts), sort_keys=True))}
    for group, pairs in (("kernel", reader.kernels), ("dense", reader.dense)):
        for index, (weight, bias) in enumerate(pairs):
            arrays[f"{group}{index}_weight"] = weight.astype(np.float16)
            arrays[f"{group}{index}_bias"] = bias.astype(np.float16)
    with path.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def _pairs(arrays: Mapping[str, NDArray[Any]], group: str) -> tuple[tuple[FloatArray, FloatArray], ...]:
    count = sum(name.startswith(group) and name.endswith("_weight") for name in arrays)
    return tuple(
        (
            arrays[f"{group}{index}_weight"].astype(np.float32),
            arrays[f"{group}{index}_bias"].astype(np.float32),
        )
        for index in range(count)
    )


def _halving_convolution(features: FloatArray, kernel: FloatArray) -> FloatArray:
    """3x3 convolution with stride 2 and a border of one zero: (N, H, W, I) to (N, H/2, W/2, O)."""
    padded = np.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = features.shape[1] // 2, features.shape[2] // 2
    taps = [
        padded[:, row : row + 2 * height : 2, column : column + 2 * width : 2]
        for row in range(3)
        for column in range(3)
    ]
    inputs = np.concatenate(taps, axis=3)
    return np.asarray(inputs @ kernel.reshape(-1, kernel.shape[3]), dtype=np.float32)

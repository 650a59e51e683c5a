"""Runs the evaluation SyncNet over clips, and finds its weights."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from qsens.core.errors import DataError, LoadError
from qsens.scoring.feature_session import user_cache_folder
from qsens.scoring.weights import fetch_file, file_digest
from qsens.zoo.syncnet.lse import FRAMES_IN_WINDOW, SyncScore, audio_windows, sync_scores, window_count
from qsens.zoo.syncnet.network import FEATURES, SyncNet, open_syncnet

WEIGHTS_FILE = "syncnet_v2.model"
WEIGHTS_URL = f"http://www.robots.ox.ac.uk/~vgg/software/lipsync/data/{WEIGHTS_FILE}"
WEIGHTS_VARIABLE = "QSENS_SYNCNET_WEIGHTS"
SIZE = 224
WINDOWS_AT_ONCE = 8
Images = NDArray[np.uint8]


def weights_path() -> Path:
    """The path of weights that nobody names: the environment variable's, else one in the user's cache."""
    named = os.environ.get(WEIGHTS_VARIABLE)
    return Path(named).expanduser() if named else user_cache_folder() / WEIGHTS_FILE


def locate_weights(weights: Path | None = None, *, download: bool = False) -> Path:
    """The weights of SyncNet: the file named, else `weights_path()`, fetched there with `download`.

    The published file has no known digest to check against; scores carry that of the file in use.

    Raises:
        LoadError: saying where to put the file.
    """
    path = weights or weights_path()
    if not path.is_file() and weights is None and download:
        fetch_file(WEIGHTS_URL, path, "")
    if not path.is_file():
        raise LoadError(
            f"no weights of the evaluation SyncNet at {path}",
            f"LSE-D and LSE-C need {WEIGHTS_FILE} (55 MB, {WEIGHTS_URL}): put it there, name it with "
            f"{WEIGHTS_VARIABLE}, or fetch it with: qsens zoo score --data DIR --download",
        )
    return path


@dataclass(frozen=True, eq=False)
class SyncMeter:
    """Measures clips with a SyncNet in eval mode.

    `identity` names the weights and the treatment of pictures: scores of different identities must not be
    compared. `jpeg_quality`: pictures are compressed first, as the published evaluation does (it leaves the
    quality to its video tool's default); `None` leaves them as they are.
    """

    network: SyncNet
    identity: str
    jpeg_quality: int | None = None

    def score(self, images: Images, sound: NDArray[Any]) -> SyncScore:
        """Score one clip: consecutive faces uint8 (N, 3, H, W), RGB, and sound float (M,), -1 to 1, 16 kHz.

        Raises:
            DataError: if the clip is too short for a single window.
        """
        count = window_count(len(images), len(sound))
        if count == 0:
            raise DataError(
                f"{len(images)} frames and {len(sound) / 16_000:.2f} s of sound hold no window of SyncNet",
                f"pass more than {FRAMES_IN_WINDOW} frames with their sound",
            )
        windows = torch.from_numpy(audio_windows(sound, count))
        with torch.inference_mode():
            spoken = [self.network.audio_features(part) for part in windows.split(WINDOWS_AT_ONCE)]
            shown = [self.network.video_features(part) for part in self._picture_windows(images, count)]
        video, audio = torch.cat(shown).numpy(), torch.cat(spoken).numpy()
        assert video.shape == audio.shape == (count, FEATURES)
        return sync_scores(video, audio)

    def _picture_windows(self, images: Images, count: int) -> Iterator[torch.Tensor]:
        """Parts of float (count, 3, 5, 224, 224), BGR, 0 to 255: the frames i to i + 4 for window i."""
        for start in range(0, count, WINDOWS_AT_ONCE):
            stop = min(start + WINDOWS_AT_ONCE, count)
            needed = images[start : stop + FRAMES_IN_WINDOW - 1]
            frames = torch.from_numpy(np.stack([self._prepared(image) for image in needed]))
            yield torch.stack(
                [frames[first : first + FRAMES_IN_WINDOW].transpose(0, 1) for first in range(stop - start)]
            )

    def _prepared(self, image: Images) -> NDArray[np.float32]:
        """A picture as float32 (3, 224, 224), BGR, 0 to 255: compressed, scaled, rounded."""
        pixels = image if self.jpeg_quality is None else _compressed(image, self.jpeg_quality)
        values = torch.from_numpy(np.ascontiguousarray(pixels[::-1]))[None].float()
        scaled = functional.interpolate(values, (SIZE, SIZE), mode="bilinear", align_corners=False)
        return np.asarray(scaled[0].round().clamp(0, 255).numpy())


def open_sync_meter(weights: Path | None = None, *, jpeg_quality: int | None = None) -> SyncMeter:
    """The meter with published weights, found by `locate_weights`.

    Raises:
        LoadError: if the weights are missing or are something else.
        DataError: for a JPEG quality outside 1 to 100.
    """
    if jpeg_quality is not None and not 1 <= jpeg_quality <= 100:
        raise DataError(f"a JPEG quality of {jpeg_quality}", "use 1 to 100, or leave it out")
    path = locate_weights(weights)
    network = open_syncnet(path)
    treatment = "uncompressed" if jpeg_quality is None else f"jpeg{jpeg_quality}"
    return SyncMeter(network, f"syncnet/{file_digest(path)[:16]}/{treatment}", jpeg_quality)


def _compressed(image: Images, quality: int) -> Images:
    with io.BytesIO() as stream:
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(stream, "JPEG", quality=quality)
        return np.asarray(Image.open(stream)).transpose(2, 0, 1)

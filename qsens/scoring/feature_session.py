"""`SessionFeatures`: features of pictures by an ONNX graph, and graphs that are built once and kept."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsens.core.errors import DataError
from qsens.scoring.weights import file_digest, write_whole

if TYPE_CHECKING:
    import onnx


IMAGES_PER_RUN = 8
GRAPH_VERSION = 1


def user_cache_folder() -> Path:
    """Folder for built graphs: `qsens` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qsens"


def check_images(images: NDArray[Any]) -> None:
    """Raises `DataError` for anything but uint8 (N, 3, H, W), at least one."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise DataError(
            f"images of shape {images.shape} and dtype {images.dtype}",
            "an extractor wants uint8 RGB images (N, 3, H, W), at least one",
        )


class SessionFeatures:
    """Callable: uint8 (N, 3, H, W) RGB images to float32 (N, D) features; opened again when unpickled."""

    def __init__(self, graph: bytes, threads: int) -> None:
        self._graph = graph
        self._threads = threads
        self._session = open_session(graph, threads)

    @property
    def dimension(self) -> int:
        """The number of features."""
        (features,) = self._session.get_outputs()
        return int(features.shape[1])

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        check_images(images)
        parts = [
            self._session.run(["features"], {"images": images[start : start + IMAGES_PER_RUN]})[0]
            for start in range(0, len(images), IMAGES_PER_RUN)
        ]
        return np.concatenate(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return SessionFeatures, (self._graph, self._threads)


def open_session(graph: bytes | str, threads: int) -> Any:
    """A session of ONNX Runtime on the CPU for a serialised graph or the path of one."""
    import onnxruntime  # deferred: listing or naming extractors needs no runtime

    from qsens.device.onnxruntime_runtime import session_options

    options = session_options(threads=threads)
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def built_graph(build: Callable[[], onnx.ModelProto], name: str, digest: str, cache: Path | None) -> bytes:
    """The serialised graph, from the cache folder where it is there and undamaged.

    A cached file carries the start of its own sha256 in its name.
    """
    stem = f"{name}-{digest[:16]}-{GRAPH_VERSION}"
    for path in sorted(cache.glob(f"{stem}-*.onnx")) if cache else []:
        if file_digest(path).startswith(path.stem.rpartition("-")[2]):
            return path.read_bytes()
    serialised: bytes = build().SerializeToString()
    if cache:
        content = hashlib.sha256(serialised).hexdigest()[:16]
        # A cache that cannot be written costs time only.
        with contextlib.suppress(DataError):
            write_whole(cache / f"{stem}-{content}.onnx", lambda path: path.write_bytes(serialised))
    return serialised

"""Feature extractors by name, run on ONNX Runtime, and features of real images, of one size or many."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsens.calibration.real_images import RealImages
from qsens.core.errors import DataError, SpecError
from qsens.core.interfaces import Extractor, Progress
from qsens.scoring import inception, lite0
from qsens.scoring.weights import file_digest, write_whole

if TYPE_CHECKING:
    import onnx


EXTRACTOR_NAMES = (inception.NAME, lite0.NAME)
IMAGES_PER_RUN = 8
GRAPH_VERSION = 1


def features_of_images(
    images: RealImages, extractor: Extractor, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Features (N, D), float32, of all images in order.

    Images may differ in size; the extractor resizes each from its own.

    Raises:
        DataError: for a file that is no image.
    """
    parts: list[NDArray[np.float32]] = []
    done = 0
    for batch in _batches_of_one_size(images):
        parts.append(extractor.run(batch))
        done += len(batch)
        if progress is not None:
            progress(done, len(images), "real images: features")
    return np.concatenate(parts)


def _batches_of_one_size(images: RealImages) -> Iterator[NDArray[np.uint8]]:
    """uint8 (N, 3, H, W) batches of neighbours of equal size."""
    batch: list[NDArray[np.uint8]] = []
    for index in range(len(images)):
        image = images.image(index)
        if batch and (len(batch) == IMAGES_PER_RUN or image.shape != batch[0].shape):
            yield np.stack(batch)
            batch = []
        batch.append(image)
    yield np.stack(batch)


def default_extractor_name(inception_weights: Path | None = None) -> str:
    """`inception` where its weights are named or in torch's cache, else the embedded `lite0`."""
    return inception.NAME if inception.weights_are_at_hand(inception_weights) else lite0.NAME


def load_extractor(
    name: str,
    *,
    inception_weights: Path | None = None,
    threads: int = 0,
    cache: Path | None = None,
    download: bool = False,
) -> Extractor:
    """Open `inception` or `lite0`; the weights' sha256 is checked every time.

    `threads`: 0 for one a core. `cache`: folder that keeps the built graph, so that later loads need no
    torch; Inception's large one is kept in `user_cache_folder()` where no other is named.
    `download` allows Inception's weights to be fetched.

    Raises:
        SpecError: for an unknown name.
        LoadError: if the weights are missing, damaged or cannot be read; no other extractor is used instead.
    """
    if name == lite0.NAME:
        return load_lite0(threads=threads, cache=cache)
    if name == inception.NAME:
        weights = inception.locate_weights(inception_weights, download=download)
        return load_inception(weights, threads=threads, cache=cache or user_cache_folder())
    close = difflib.get_close_matches(name, EXTRACTOR_NAMES, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"use {' or '.join(EXTRACTOR_NAMES)}"
    raise SpecError(f"no extractor named {name!r}", hint)


def load_lite0(*, threads: int = 0, cache: Path | None = None) -> Extractor:
    """EfficientNet-Lite0 with the weights of its package. Raises `LoadError`."""
    path = lite0.locate_weights()
    graph = _built_graph(lambda: lite0.build_graph(path), lite0.NAME, lite0.WEIGHTS_SHA256, cache)
    return Extractor(
        name=lite0.NAME,
        dimension=lite0.DIMENSION,
        input_size=lite0.INPUT_SIZE,
        preprocessing=lite0.PREPROCESSING,
        weights_sha256=lite0.WEIGHTS_SHA256,
        run=SessionFeatures(graph, threads),
    )


def load_inception(
    weights: Path,
    *,
    threads: int = 0,
    cache: Path | None = None,
    expected_prefix: str = inception.WEIGHTS_SHA256_START,
) -> Extractor:
    """pytorch-fid's Inception with weights from a file whose sha256 starts as expected.

    Raises:
        LoadError: if the file is another one or cannot be read.
    """
    digest = inception.check_weights(weights, expected_prefix)
    graph = _built_graph(lambda: inception.build_graph(weights), inception.NAME, digest, cache)
    return Extractor(
        name=inception.NAME,
        dimension=inception.DIMENSION,
        input_size=inception.INPUT_SIZE,
        preprocessing=inception.PREPROCESSING,
        weights_sha256=digest,
        run=SessionFeatures(graph, threads),
    )


def user_cache_folder() -> Path:
    """Folder for built graphs: `qsens` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qsens"


class SessionFeatures:
    """Callable: uint8 (N, 3, H, W) RGB images to float32 (N, D) features; opened again when unpickled."""

    def __init__(self, graph: bytes, threads: int) -> None:
        self._graph = graph
        self._threads = threads
        self._session = _open_session(graph, threads)

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
            raise DataError(
                f"images of shape {images.shape} and dtype {images.dtype}",
                "an extractor wants uint8 RGB images (N, 3, H, W), at least one",
            )
        parts = [
            self._session.run(["features"], {"images": images[start : start + IMAGES_PER_RUN]})[0]
            for start in range(0, len(images), IMAGES_PER_RUN)
        ]
        return np.concatenate(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return SessionFeatures, (self._graph, self._threads)


def _open_session(graph: bytes, threads: int) -> Any:
    import onnxruntime  # deferred: listing or naming extractors needs no runtime

    from qsens.device.onnxruntime_runtime import session_options

    options = session_options(threads=threads)
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _built_graph(build: Callable[[], onnx.ModelProto], name: str, digest: str, cache: Path | None) -> bytes:
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

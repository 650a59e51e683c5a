"""Features of a folder of images, of one size or many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qsens.calibration.images import list_images, read_image
from qsens.interfaces import Extractor, Progress

IMAGES_PER_BATCH = 8


def features_of_folder(
    folder: Path, extractor: Extractor, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Features (N, D), float32, of all images of a folder in the order of `list_images`.

    Images may differ in size; the extractor resizes each from its own.

    Raises:
        DataError: for an empty folder or a file that is no image.
    """
    files = list_images(folder)
    parts: list[NDArray[np.float32]] = []
    done = 0
    for batch in _batches_of_one_size(files):
        parts.append(extractor.run(batch))
        done += len(batch)
        if progress is not None:
            progress(done, len(files), str(folder))
    return np.concatenate(parts)


def _batches_of_one_size(files: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
    """uint8 (N, 3, H, W) batches of neighbours of equal size."""
    batch: list[NDArray[np.uint8]] = []
    for path in files:
        image = read_image(path).transpose(2, 0, 1)
        if batch and (len(batch) == IMAGES_PER_BATCH or image.shape != batch[0].shape):
            yield np.stack(batch)
            batch = []
        batch.append(image)
    yield np.stack(batch)

"""Features of real images, of one size or many."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from qsens.calibration.real_images import RealImages
from qsens.core.interfaces import Extractor, Progress

IMAGES_PER_BATCH = 8


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
        if batch and (len(batch) == IMAGES_PER_BATCH or image.shape != batch[0].shape):
            yield np.stack(batch)
            batch = []
        batch.append(image)
    yield np.stack(batch)

"""Real images that scores compare with: a folder of images, or the targets of a set with an opener."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from qsens.calibration.files import SetFiles
from qsens.calibration.images import list_images, read_image
from qsens.calibration.manifest import read_manifest
from qsens.calibration.sets import open_sample_set
from qsens.core.errors import DataError
from qsens.core.interfaces import InputSpec, SampleSet
from qsens.core.spec import LARGEST_PICTURE_MEGAPIXELS

Array = np.ndarray[Any, np.dtype[Any]]


class RealImages(Protocol):
    """Real images in a fixed order, read when asked for. `digest` covers every byte."""

    @property
    def digest(self) -> str: ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> Array:
        """uint8 (3, H, W), 0 to 255, RGB. Raises `DataError` if it cannot be read."""
        ...


def open_real_images(
    folder: Path,
    inputs: Sequence[InputSpec] = (),
    *,
    largest_megapixels: int = LARGEST_PICTURE_MEGAPIXELS,
) -> RealImages:
    """The images directly in `folder`; where its manifest names an opener, the targets of that set.

    `inputs` are the generator's, which an opener may need.

    Raises:
        DataError: for a missing or empty folder, or a set that knows no targets.
        PluginError, SpecError: as `open_sample_set`.
    """
    manifest = read_manifest(folder)
    if manifest is None or manifest.opener is None:
        return FolderImages(folder, list_images(folder), largest_megapixels)
    samples = open_sample_set(str(folder), inputs=inputs, rules={}, seed=0)
    if "target" not in samples.annotation(0):
        raise DataError(
            f"the set {samples.name!r} does not say what its samples should look like",
            "give a folder of real images as the reference",
        )
    return TargetImages(samples)


@dataclass(frozen=True, eq=False)
class FolderImages:
    """Image files, each at its own size."""

    folder: Path
    paths: tuple[Path, ...]
    largest_megapixels: int = LARGEST_PICTURE_MEGAPIXELS

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def digest(self) -> str:
        """sha256 over the files in order; names do not count."""
        return SetFiles(self.folder, self.paths, are_images=True).digest

    def image(self, index: int) -> Array:
        return read_image(self.paths[index], self.largest_megapixels).transpose(2, 0, 1)


@dataclass(frozen=True, eq=False)
class TargetImages:
    """The true pictures that belong to the samples of a set."""

    samples: SampleSet

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"targets/{self.samples.digest}".encode()).hexdigest()

    def image(self, index: int) -> Array:
        target: Array = self.samples.annotation(index)["target"]
        return target

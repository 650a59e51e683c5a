"""Ways to see how pictures differ from FP32's: by grey levels, or by FLIP where the run scored it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from qsens.core.trial import Study

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class Difference:
    """A way to see how pictures differ from FP32's: both uint8 (K, 3, H, W) to float32 (K, H, W).

    `name` heads a row of its maps, `title` says what they are; 0 to `full_scale`, in `unit`.
    """

    name: str
    title: str
    unit: str
    full_scale: float
    of: "Callable[[Array, Array], Array]"


def _in_levels(images: "Array", reference: "Array") -> "Array":
    return np.asarray(np.abs(images.astype(np.float32) - reference.astype(np.float32)).mean(axis=1))


def _by_flip(images: "Array", reference: "Array") -> "Array":
    from qsens.scoring.flip import difference_map  # its package is an extra

    return np.stack([difference_map(*pair) for pair in zip(images, reference, strict=True)])


LEVELS = Difference(
    "error",
    "absolute difference to FP32 averaged over colours",
    "absolute error, 8-bit levels",
    255.0,
    _in_levels,
)
FLIP = Difference(
    "FLIP", "what a person sees who flips between the picture and FP32's", "FLIP error, 0 to 1", 1.0, _by_flip
)


def difference_of(study: Study) -> Difference:
    """FLIP where the run scored it and its package is here, else the absolute difference."""
    return FLIP if "flip" in study.metrics and find_spec("flip_evaluator") else LEVELS

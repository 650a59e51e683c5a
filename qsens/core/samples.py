"""The contract of sample sets, with the rules that make arrays of files and pictures of arrays."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]
    Sample = Mapping[str, Array]


@dataclass(frozen=True)
class InputSpec:
    """One graph input. `shape` leaves out the batch axis when `is_batched`; `None` marks a free side.

    `stated` is the shape that the user gives an input with free sides, likewise without the batch axis.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    is_batched: bool
    stated: tuple[int, ...] | None = None

    @property
    def sides(self) -> tuple[int | None, ...]:
        """`shape`, its free sides as they are stated."""
        return self.shape if self.stated is None else self.stated


@dataclass(frozen=True)
class InputRule:
    """The source of one graph input and the steps from file to array; written in the spec, shown by `plan`.

    `source` is `image` (a file of an image folder), `array` (the array of that name in an `.npz`), `normal`
    or `uniform` (seeded noise: mean 0 and variance 1, or `value_range`), or `constant` (`value`, broadcast
    to the input's shape). `value_range` is what 0..255 maps to; `colour_order` is `rgb`, `bgr` or `gray`;
    `crop` is `none` or `center` (the largest centred rectangle of the target's aspect ratio);
    `resize` is (height, width) in pixels, `None` leaves the size alone.
    """

    source: str = "image"
    value_range: tuple[float, float] = (0.0, 1.0)
    colour_order: str = "rgb"
    crop: str = "none"
    resize: tuple[int, int] | None = None
    value: tuple[float, ...] | None = None


FLOAT_RANGE = (0.0, 1.0)


@dataclass(frozen=True)
class OutputRule:
    """The output that is the picture, and the range and colour order that make uint8 RGB of its values.

    `name` is the graph output, `None` where there is only one that looks like an image; `also` are further
    ones, for each metric the worst decides. `value_range` is what becomes 0..255, `None` where nobody stated
    it: once a sweep is open, it is that of the output's type.
    """

    name: str | None = None
    value_range: tuple[float, float] | None = None
    colour_order: str = "rgb"
    also: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The outputs that were named."""
        return () if self.name is None else (self.name, *self.also)

    @property
    def pixel_range(self) -> tuple[float, float]:
        """The range that was stated or settled, else that of floats."""
        return self.value_range or FLOAT_RANGE


class SampleSet(Protocol):
    """Inputs of the generator in a fixed order, read when asked for.

    `name` is for people, `digest` covers every byte and every preprocessing option. `clusters` gives the
    clip each sample belongs to (equal labels: correlated samples), or `None` where all are independent.
    """

    name: str
    clusters: tuple[str, ...] | None

    @property
    @abstractmethod
    def digest(self) -> str: ...

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def sample(self, index: int) -> Sample:
        """Arrays by graph input name, without the batch axis, in the dtype the graph wants.

        Raises:
            DataError: if the file cannot be read or does not fit the graph input.
        """
        ...

    @abstractmethod
    def describe(self) -> Mapping[str, str]:
        """The steps from data to arrays (count, size, range, colour, crop, resize), for `qsens plan`."""
        ...

    @property
    def value_ranges(self) -> Mapping[str, tuple[float, float]]:
        """Least and largest value of the inputs that can never hold others, by name; not those of samples.

        An input of pictures in 0..1, say, or a constant. Number formats rest on it.
        """
        return {}

    def annotation(self, index: int) -> Mapping[str, Any]:
        """All that is known of a sample beside its inputs.

        Keys in use: `clip` (str) and `frame` (int) where samples are frames of clips; `target`, the real
        image that the generator should make, uint8 (3, H, W), 0 to 255, RGB; a set may add its own.
        """
        return {}

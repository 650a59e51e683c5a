"""Inputs that no file feeds: seeded noise and constants."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsens.calibration.images import image_sides, shape_flag, shape_text
from qsens.calibration.rules import how_to_feed
from qsens.core.errors import SpecError
from qsens.core.interfaces import InputRule, InputSpec


class NoiseFeed:
    """Noise of one input: a function of seed, input name and sample index alone.

    Normal noise has mean 0 and variance 1, uniform noise fills `rule.value_range`. So that a set may be
    cut, reordered or read in parallel, no generator state passes from one sample to the next.
    """

    def __init__(self, spec: InputSpec, rule: InputRule, seed: int) -> None:
        if np.dtype(spec.dtype).kind != "f":
            raise SpecError(
                f"input {spec.name!r} is {shape_text(spec)}: noise is for float inputs",
                how_to_feed(spec),
            )
        if seed < 0:
            raise SpecError(f"the seed is {seed}", "use 0 or more")
        self._spec = spec
        self._rule = rule
        self._seed = seed
        self._shape = _concrete_shape(spec, rule)
        self._name_key = int.from_bytes(hashlib.sha256(spec.name.encode()).digest()[:8])

    def read(self, index: int) -> NDArray[Any]:
        """Noise of the given sample."""
        sequence = np.random.SeedSequence([self._seed, self._name_key, index])
        generator = np.random.Generator(np.random.PCG64(sequence))
        if self._rule.source == "normal":
            return generator.standard_normal(self._shape).astype(self._spec.dtype)
        low, high = self._rule.value_range
        return generator.uniform(low, high, self._shape).astype(self._spec.dtype)

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The rule's for uniform noise; normal noise has no ends."""
        return None if self._rule.source == "normal" else self._rule.value_range

    def identity(self) -> Mapping[str, object]:
        """Everything that the values depend on."""
        bounds = None if self._rule.source == "normal" else self._rule.value_range
        return {
            "source": self._rule.source,
            "value_range": bounds,
            "seed": self._seed,
            "shape": self._shape,
            "dtype": self._spec.dtype,
        }

    def describe(self) -> Mapping[str, str]:
        """One line for `qsens plan`."""
        low, high = self._rule.value_range
        text = (
            "normal, mean 0, variance 1" if self._rule.source == "normal" else f"uniform in {low:g}..{high:g}"
        )
        return {f"input {self._spec.name}": f"noise {self._shape}, {text}, seed {self._seed}"}


class ConstantFeed:
    """The same values for every sample: `rule.value`, one for all or one for each element."""

    def __init__(self, spec: InputSpec, rule: InputRule) -> None:
        values = np.array(rule.value)
        shape = _constant_shape(spec, rule, values.size)
        if values.size not in (1, math.prod(shape)):
            raise SpecError(
                f"input {spec.name!r} is {shape_text(spec)}, but its constant has {values.size} values",
                "give one value, or one for each element",
            )
        with np.errstate(invalid="ignore"):  # checked just below
            converted = values.astype(spec.dtype)
        if np.dtype(spec.dtype).kind != "f" and (converted != values).any():
            raise SpecError(
                f"input {spec.name!r} is {spec.dtype}, but its constant is {rule.value}",
                f"give whole numbers that {spec.dtype} can hold",
            )
        self._spec = spec
        self._values = np.broadcast_to(
            converted.reshape(shape) if values.size == math.prod(shape) else converted, shape
        )

    def read(self, index: int) -> NDArray[Any]:
        """A copy, so that a caller may change it."""
        return self._values.copy()

    @property
    def value_range(self) -> tuple[float, float]:
        """The least and the largest of the values."""
        return float(self._values.min()), float(self._values.max())

    def identity(self) -> Mapping[str, object]:
        """Everything that the values depend on."""
        checksum = hashlib.sha256(np.ascontiguousarray(self._values).tobytes()).hexdigest()
        return {
            "source": "constant",
            "sha256": checksum,
            "shape": self._values.shape,
            "dtype": self._spec.dtype,
        }

    def describe(self) -> Mapping[str, str]:
        """One line for `qsens plan`."""
        shown = [f"{value:g}" for value in np.unique(self._values)[:4]]
        return {f"input {self._spec.name}": f"constant {self._values.shape}, values {', '.join(shown)}"}


def _concrete_shape(spec: InputSpec, rule: InputRule) -> tuple[int, ...]:
    """The input's shape with free sides as they are stated, else height and width from `rule.resize`."""
    shape = list(spec.sides)
    is_image = image_sides(spec) is not None
    if rule.resize is not None and is_image:
        for axis, side in zip((-2, -1), rule.resize, strict=True):
            shape[axis] = side if shape[axis] is None else shape[axis]
    if None in shape:
        resizing = " or a resize (height, width) of its rule" if is_image and None not in shape[:-2] else ""
        raise SpecError(
            f"input {spec.name!r} is {shape_text(spec)}: its rule needs a size for its free sides",
            f"state it with {shape_flag(spec)}{resizing}, or use a folder of .npz files",
        )
    return tuple(side for side in shape if side is not None)


def _constant_shape(spec: InputSpec, rule: InputRule, size: int) -> tuple[int, ...]:
    """As for noise; where no side is known, as many elements as there are values."""
    is_unknown = rule.resize is None and set(spec.sides) == {None}
    if is_unknown and (size == 1 or len(spec.sides) == 1):
        return (1,) * (len(spec.sides) - 1) + (size,)
    return _concrete_shape(spec, rule)

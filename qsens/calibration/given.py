"""Samples that a program gives (loaders, tensors, arrays), as arrays by graph input in a fixed order."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from qsens.calibration.feeds import CLIP_KEY
from qsens.calibration.images import fits_shape, shape_text
from qsens.core.errors import DataError
from qsens.core.interfaces import InputSpec

Array = np.ndarray[Any, np.dtype[Any]]
# Loaders that take all of a data set, in order or shuffled: their order is then the data set's own.
_WHOLE_SAMPLERS = frozenset({"SequentialSampler", "RandomSampler"})


@dataclass(frozen=True)
class GivenData:
    """Data that a caller gave, and its name in messages: `calibration` or `evaluation`.

    A loader, anything that can be looped over (tensors, tuples, dicts, arrays), or a function that returns
    such a thing.
    """

    data: Any
    name: str

    def items(self) -> Iterator[Any]:
        """Its items, one after the other. Raises `DataError` for what cannot be looped over."""
        data = self.data
        if callable(data) and not hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
            data = data()
        if _is_loader(data):
            yield from _in_order(data)
            return
        if isinstance(data, Mapping | str | bytes) or not (
            hasattr(data, "__iter__") or hasattr(data, "__getitem__")
        ):
            raise DataError(
                f"{self.name} is a {type(data).__name__}, which is no series of samples",
                "give a folder, a loader, a list of arrays or tensors, or a function that returns one",
            )
        yield from data

    def with_first_item(self) -> tuple[Any, GivenData]:
        """The first item, and the data with it still in front. Raises `DataError` where there is none."""
        items = self.items()
        for item in items:
            is_read_once = isinstance(self.data, Iterator)
            return item, replace(self, data=chain([item], items)) if is_read_once else self
        raise no_samples(self.name)

    def samples(self, inputs: Sequence[InputSpec]) -> Iterator[dict[str, Array]]:
        """Each sample as arrays by name, without the batch axis, in the types of the graph's inputs.

        Raises:
            DataError: for another type, number, shape or name, with the inputs of the graph.
        """
        for place, item in enumerate(self.items()):
            yield from _Item(f"item {place} of {self.name}", inputs).samples(item)


def _is_loader(data: Any) -> bool:
    return all(hasattr(data, name) for name in ("dataset", "collate_fn", "batch_size", "sampler"))


def _in_order(loader: Any) -> Iterator[Any]:
    """The batches of a loader, in the order of its data set where it takes all of that."""
    dataset, size = loader.dataset, loader.batch_size
    is_whole = type(loader.sampler).__name__ in _WHOLE_SAMPLERS and hasattr(dataset, "__len__")
    if not (is_whole and hasattr(dataset, "__getitem__") and size):
        yield from loader
        return
    for start in range(0, len(dataset), size):
        places = range(start, min(start + size, len(dataset)))
        yield loader.collate_fn([dataset[place] for place in places])


@dataclass(frozen=True)
class _Item:
    """One item of the data, by its name in messages: a sample, or a batch of them."""

    name: str
    inputs: Sequence[InputSpec]

    def samples(self, item: Any) -> Iterator[dict[str, Array]]:
        arrays = self._by_name(item)
        clips = arrays.pop(CLIP_KEY, None)
        values = {spec.name: self._fitting_type(spec, arrays[spec.name]) for spec in self.inputs}
        if all(fits_shape(values[spec.name].shape, spec.sides) for spec in self.inputs):
            yield {**values, **({} if clips is None else {CLIP_KEY: np.asarray(clips)})}
            return
        counts = {self._batch_size(spec, values[spec.name]) for spec in self.inputs}
        if len(counts) > 1:
            raise self._error(f"{self.name} has inputs of {', '.join(map(str, sorted(counts)))} samples")
        for place in range(counts.pop()):
            one = {spec.name: values[spec.name][place] for spec in self.inputs}
            yield {**one, **({} if clips is None else {CLIP_KEY: np.asarray(clips)[place]})}

    def _by_name(self, item: Any) -> dict[str, Any]:
        names = [spec.name for spec in self.inputs]
        if isinstance(item, Mapping):
            if missing := [name for name in names if name not in item]:
                raise self._error(f"{self.name} has no {missing[0]!r}, only {', '.join(map(str, item))}")
            if unknown := [name for name in item if name not in (*names, CLIP_KEY)]:
                raise self._error(f"{self.name} has {unknown[0]!r}, which is no input")
            return {name: value if name == CLIP_KEY else self._array(value) for name, value in item.items()}
        values = item if isinstance(item, tuple | list) else (item,)
        if len(values) != len(names):
            held = "1 array" if len(values) == 1 else f"{len(values)} arrays"
            raise self._error(f"{self.name} holds {held} for {len(names)} inputs")
        return dict(zip(names, map(self._array, values), strict=True))

    def _array(self, value: Any) -> Array:
        found = array_of(value)
        if found is None:
            raise self._error(f"{self.name} holds a {type(value).__name__}, which is no array")
        return found

    def _fitting_type(self, spec: InputSpec, value: Array) -> Array:
        kinds = {"i": "integer", "u": "integer"}
        given, wanted = (kinds.get(kind, kind) for kind in (value.dtype.kind, np.dtype(spec.dtype).kind))
        if given != wanted:
            raise self._error(f"{self.name} is {value.dtype} for input {spec.name!r}")
        return value.astype(spec.dtype, copy=False)

    def _batch_size(self, spec: InputSpec, value: Array) -> int:
        if not value.ndim or not fits_shape(value.shape[1:], spec.sides):
            raise self._error(f"{self.name} is {value.shape} for input {spec.name!r}")
        return len(value)

    def _error(self, message: str) -> DataError:
        wanted = ", ".join(f"{spec.name} {shape_text(spec)}" for spec in self.inputs)
        noun = "input is" if len(self.inputs) == 1 else "inputs are"
        form = "with or without a batch axis before it; several as a tuple or dict"
        return DataError(message, f"the graph's {noun} {wanted}, {form}")


def array_of(value: Any) -> Array | None:
    """A tensor, array or number as an array; `None` for anything else."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        # NumPy has no type for some of torch's, such as bfloat16.
        value = (value.float() if value.is_floating_point() else value).numpy()
    if isinstance(value, np.ndarray | np.generic | int | float) and not isinstance(value, bool):
        found = np.asarray(value)
        return found if found.dtype.kind in "iufb" else None
    return None


@contextmanager
def same_randomness(seed: int) -> Iterator[None]:
    """Seed the random numbers of Python, NumPy and torch, and put them back as they were."""
    states: list[tuple[Callable[[Any], Any], Any]] = [
        (random.setstate, random.getstate()),
        (np.random.set_state, np.random.get_state()),
    ]
    torch = sys.modules.get("torch")
    random.seed(seed)
    np.random.seed(seed)
    if torch is not None:
        states.append((torch.set_rng_state, torch.get_rng_state()))
        torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        for put_back, state in states:
            put_back(state)


def no_samples(name: str) -> DataError:
    """The error for data without a sample."""
    return DataError(
        f"{name} gave no sample",
        "what can be read only once, such as a generator, is given as a function that makes a new one",
    )

"""Sample sets that a user's own code supplies, held to the contract of `SampleSet`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qsens.calibration.images import fits_shape, shape_text
from qsens.core.errors import PluginError, QsensError
from qsens.core.interfaces import InputSpec, SampleSet
from qsens.core.plugins import with_defaults

if TYPE_CHECKING:
    from qsens.core.interfaces import Sample


class PluginSampleSet:
    """A plug-in's sample set; every sample it gives is checked."""

    def __init__(
        self,
        source: str,
        plugin: SampleSet,
        inputs: Sequence[InputSpec],
        *,
        name: str | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        self._source = source
        self._plugin: SampleSet = with_defaults(SampleSet, plugin)
        self._inputs = tuple(inputs)
        self._facts = dict(facts or {})
        self.name = name or _attribute(source, plugin, "name", str)
        self.digest = _attribute(source, plugin, "digest", str)
        self.clusters = _clusters(source, plugin)

    def __len__(self) -> int:
        return len(self._plugin)

    def sample(self, index: int) -> Sample:
        """The plug-in's sample. Raises `PluginError` if keys, shapes or dtypes are wrong."""
        sample = _guarded(self._source, f"sample({index})", lambda: self._plugin.sample(index))
        if not isinstance(sample, Mapping) or set(sample) != {spec.name for spec in self._inputs}:
            got = sorted(sample) if isinstance(sample, Mapping) else type(sample).__name__
            wanted = ", ".join(spec.name for spec in self._inputs)
            raise PluginError(
                f"{self._source}: sample({index}) gave {got}", f"give one array each for {wanted}"
            )
        for spec in self._inputs:
            _check_array(self._source, index, spec, sample[spec.name])
        return sample

    def describe(self) -> Mapping[str, str]:
        """The plug-in's own description, with its name, its origin and the count."""
        said = _guarded(self._source, "describe()", self._plugin.describe)
        if not isinstance(said, Mapping):
            raise PluginError(f"{self._source}: describe() gave {said!r}", "return a mapping of texts")
        texts = {str(key): str(value) for key, value in said.items()}
        facts = {"name": self.name, "source": f"plug-in {self._source}", "count": str(len(self))}
        return {**facts, **self._facts, **texts}

    @property
    def value_ranges(self) -> Mapping[str, tuple[float, float]]:
        """Ranges that the plug-in vouches for; empty where it says nothing."""
        stated: Mapping[str, tuple[float, float]] = _guarded(
            self._source, "value_ranges", lambda: self._plugin.value_ranges
        )
        return {name: (float(low), float(high)) for name, (low, high) in stated.items()}

    def annotation(self, index: int) -> Mapping[str, Any]:
        """Facts that the plug-in knows of a sample beside its inputs; empty where it says nothing."""
        noted: Mapping[str, Any] = _guarded(
            self._source, f"annotation({index})", lambda: self._plugin.annotation(index)
        )
        return noted


def open_plugin_set(source: str, inputs: Sequence[InputSpec], seed: int, count: int | None) -> SampleSet:
    """Call `package.module:factory` with `inputs`, `seed` and `count`; check what it returns.

    The working folder is searched too, as `python -m` would. `count` is how many samples the user wants,
    `None` for all the set has.

    Raises:
        PluginError: if it cannot be imported, fails, or does not return a sample set.
    """
    factory = _import_factory(source)
    plugin = _guarded(source, "the factory", lambda: factory(inputs=tuple(inputs), seed=seed, count=count))
    missing = [
        name for name in ("sample", "describe", "__len__") if not callable(getattr(plugin, name, None))
    ]
    if missing:
        raise PluginError(
            f"{source} returned {type(plugin).__name__} without {', '.join(missing)}",
            "return a qsens.core.interfaces.SampleSet",
        )
    length = _guarded(source, "len()", lambda: len(plugin))
    if length < 1:
        raise PluginError(f"{source} returned a set of {length} samples", "return at least one sample")
    return PluginSampleSet(source, plugin, inputs)


def _import_factory(source: str) -> Callable[..., Any]:
    module_name, _, factory_name = source.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    module = _guarded(source, f"importing {module_name}", lambda: importlib.import_module(module_name))
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        raise PluginError(f"{module_name} has no function {factory_name!r}", "check the name after the colon")
    return factory  # type: ignore[no-any-return]


def _guarded(source: str, step: str, call: Callable[[], Any]) -> Any:
    """Whatever foreign code raises becomes a `PluginError` that says where; our own errors pass."""
    try:
        return call()
    except QsensError:
        raise
    except Exception as error:
        raise PluginError(
            f"{source}: {step} failed: {type(error).__name__}: {error}", "fix the plug-in data set"
        ) from error


def _attribute(source: str, plugin: SampleSet, name: str, kind: type) -> Any:
    value = _guarded(source, name, lambda: getattr(plugin, name))
    if not isinstance(value, kind) or not value:
        raise PluginError(f"{source}: {name} is {value!r}", f"give a {kind.__name__} that is not empty")
    return value


def _clusters(source: str, plugin: SampleSet) -> tuple[str, ...] | None:
    clusters = _guarded(source, "clusters", lambda: plugin.clusters)
    if clusters is None:
        return None
    labels = tuple(str(label) for label in clusters)
    if len(labels) != len(plugin):
        raise PluginError(
            f"{source}: {len(labels)} clusters for {len(plugin)} samples", "give one label a sample, or None"
        )
    return labels


def _check_array(source: str, index: int, spec: InputSpec, value: object) -> None:
    is_fitting = (
        isinstance(value, np.ndarray) and fits_shape(value.shape, spec.shape) and value.dtype == spec.dtype
    )
    if not is_fitting:
        got = f"{value.shape} {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise PluginError(
            f"{source}: sample({index}) gives {got} for input {spec.name!r}",
            f"the graph wants {shape_text(spec)}, without the batch axis",
        )

"""The point that a search starts from: the map that another run chose, and what layers cost there alone."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from qsens.core.layer import Layer, nearest_allowed
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.schema import read_record


@dataclass(frozen=True)
class KnownUse:
    """The share of the budget that INT8 in `layers` alone used beyond FP16, and its standard error."""

    layers: tuple[str, ...]
    share: float
    error: float


@dataclass(frozen=True)
class MappedLayer:
    """A layer of the chosen map, by name."""

    name: str
    precision: Precision


@dataclass(frozen=True)
class StartingPoint:
    """The map that the run `run` chose, layer by layer, and the uses of the budget that it knew.

    Layers are matched by name with those of a generator that may be another one.
    """

    run: str
    layers: tuple[MappedLayer, ...]
    uses: tuple[KnownUse, ...] = ()

    def map_over(self, layers: Sequence[Layer], float_precision: Precision) -> PrecisionMap:
        """The map of these layers; one that the run did not have is in `float_precision`, if it may."""
        wished = {
            layer.name: nearest_allowed(layer, self._by_name.get(layer.name, float_precision))
            for layer in layers
        }
        return PrecisionMap.over(wished)

    def use_of(self, layers: Iterable[str]) -> KnownUse | None:
        """The use of exactly these layers in INT8; `None` where the run did not try that."""
        return self._by_layers.get(frozenset(layers))

    def notes(self, layers: Sequence[Layer]) -> list[str]:
        """Sentences on the layers that are in one of the two networks only."""
        here = {layer.name for layer in layers}
        gone = [name for name in self._by_name if name not in here]
        new = [layer.name for layer in layers if layer.name not in self._by_name]
        told = [f"{_listed(gone)} of {self.run} {_verb(gone)} not in this network"] if gone else []
        if new:
            told.append(f"{_listed(new)} {_verb(new)} not in {self.run}, and not in INT8 in the first map")
        return told

    def matches(self, layers: Sequence[Layer]) -> bool:
        """Whether any layer has a name that the run knows."""
        return any(layer.name in self._by_name for layer in layers)

    def to_json(self) -> str:
        """The text of a file."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, value: object) -> "StartingPoint":
        """Read the values that `to_json` wrote. Raises `ValueError` naming what is wrong."""
        return read_record(cls, value)

    @cached_property
    def _by_name(self) -> dict[str, Precision]:
        return {layer.name: layer.precision for layer in self.layers}

    @cached_property
    def _by_layers(self) -> dict[frozenset[str], KnownUse]:
        return {frozenset(use.layers): use for use in self.uses}


_MOST_NAMED = 4


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    noun = "the layer" if len(names) == 1 else f"{len(names)} layers:"
    return f"{noun} {', '.join(names[:_MOST_NAMED])}{more}"


def _verb(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"

"""Precision of every layer: the question, the build request, the journal entry and the export in one type."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache

from qsens.core.errors import SpecError
from qsens.core.schema import shown


class Precision(StrEnum):
    """Arithmetic of one layer, widest first."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


@dataclass(frozen=True)
class PrecisionMap:
    """`default` for every layer, except the named `overrides` (sorted; never equal to the default)."""

    default: Precision
    overrides: tuple[tuple[str, Precision], ...] = ()

    def __post_init__(self) -> None:
        # The pairs themselves are kept: those that were read from a file are shared by all its maps.
        kept = {pair[0]: pair for pair in self.overrides if pair[1] is not self.default}
        object.__setattr__(self, "overrides", tuple([kept[name] for name in sorted(kept)]))

    @classmethod
    def over(cls, assignment: Mapping[str, Precision]) -> "PrecisionMap":
        """The one canonical map of an assignment of every layer, so that equal assignments compare equal.

        The default is the most frequent precision; FP32 before FP16 before INT8 where counts tie.
        """
        if not assignment:
            raise SpecError("a precision map needs at least one layer")
        values = list(assignment.values())
        # The first of equal counts, and `Precision` is in the order of the tie.
        return cls(max(Precision, key=values.count), tuple(assignment.items()))

    def __getitem__(self, layer: str) -> Precision:
        return self._by_name.get(layer, self.default)

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Callable[[object], "PrecisionMap"], tuple[object]]:
        # The hashes of texts are another process's own.
        return PrecisionMap.from_json, (self.to_json(),)

    @cached_property
    def _hash(self) -> int:
        # Names keep their hashes; members of an enum work theirs out each time, and large maps are keys.
        return hash((self.default, tuple(name for name, _ in self.overrides)))

    @cached_property
    def _by_name(self) -> Mapping[str, Precision]:
        return dict(self.overrides)

    def assignment(self, layers: Iterable[str]) -> dict[str, Precision]:
        """Precision of each of the named layers, in the order given."""
        known = dict(self.overrides)  # not kept: plans of thousands of maps would hold as many dicts
        return {name: known.get(name, self.default) for name in layers}

    def with_layers(self, layers: Iterable[str], precision: Precision) -> "PrecisionMap":
        """The same map with the named layers at `precision`."""
        return PrecisionMap(
            self.default, tuple({**dict(self.overrides), **dict.fromkeys(layers, precision)}.items())
        )

    def to_json(self) -> dict[str, object]:
        """Plain values for a JSON file: `{"default": "int8", "overrides": {"out.0": "fp16"}}`."""
        overrides = {name: str(precision) for name, precision in self.overrides}
        return {"default": str(self.default), "overrides": overrides}

    @classmethod
    def from_json(cls, value: object) -> "PrecisionMap":
        """Read what `to_json` wrote. Raises `SpecError` naming the key or the value that is wrong."""
        overrides = value.get("overrides", {}) if isinstance(value, Mapping) else None
        if not isinstance(value, Mapping) or "default" not in value or not isinstance(overrides, Mapping):
            raise SpecError(
                f"not a precision map: {shown(value)}",
                'expected {"default": ..., "overrides": {layer: precision}}',
            )
        pairs = tuple([_pair(str(name), str(text)) for name, text in overrides.items()])
        return cls(parse_precision(str(value["default"])), pairs)

    @property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the sha256 of the canonical JSON."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]


# Thousands of maps name the same layers: one pair of each is enough.
@lru_cache(maxsize=2**16)
def _pair(name: str, text: str) -> tuple[str, Precision]:
    return name, parse_precision(text)


def parse_precision(text: str) -> Precision:
    """Read `fp32`, `fp16` or `int8`. Raises `SpecError` for anything else."""
    try:
        return Precision(text)
    except ValueError:
        raise SpecError(f"no precision named {shown(text)}", "use fp32, fp16 or int8") from None

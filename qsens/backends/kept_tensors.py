"""Tensors kept between maps: what a map computed that a later one would compute again, up to a size."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class _Kept:
    """A value and how soon it is needed: 0 is the next map."""

    value: Array
    rank: int


class KeptTensors:
    """Values by what was fed and by tensor digest, never more than `limit_bytes` of them.

    Where there is no room, values that are needed later give way to values that are needed sooner.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.size_bytes = 0
        self._kept: dict[str, dict[str, _Kept]] = {}

    def of_feed(self, feed: str) -> Mapping[str, Array]:
        """Values by digest that are kept of one feed."""
        return {digest: kept.value for digest, kept in self._kept.get(feed, {}).items()}

    def digests(self) -> frozenset[str]:
        """Digests that are kept of any feed."""
        return frozenset(digest for values in self._kept.values() for digest in values)

    def retain(self, ranks: Mapping[str, int]) -> None:
        """Drop every tensor that `ranks` (by digest) does not name, and rank the others anew."""
        for feed, values in self._kept.items():
            self._drop(feed, [digest for digest in values if digest not in ranks])
            for digest, kept in values.items():
                values[digest] = _Kept(kept.value, ranks[digest])

    def drop(self, feed: str, digests: Iterable[str]) -> None:
        """Forget tensors of one feed."""
        self._drop(feed, [digest for digest in digests if digest in self._kept.get(feed, {})])

    def keep(self, feed: str, values: Mapping[str, Array], rank: int) -> None:
        """Keep all `values` of one feed, or none where there is no room for them together."""
        needed = sum(value.nbytes for value in values.values())
        if not values or not self._make_room(needed, rank):
            return
        own = self._kept.setdefault(feed, {})
        self.drop(feed, values)
        own.update((digest, _Kept(value, rank)) for digest, value in values.items())
        self.size_bytes += needed

    def _make_room(self, needed: int, rank: int) -> bool:
        if needed > self.limit_bytes:
            return False
        while self.size_bytes + needed > self.limit_bytes:
            worst = max((kept.rank for values in self._kept.values() for kept in values.values()), default=0)
            if worst <= rank:
                return False
            feed = next(
                name
                for name in reversed(self._kept)
                if any(kept.rank == worst for kept in self._kept[name].values())
            )
            self._drop(feed, [name for name, kept in self._kept[feed].items() if kept.rank == worst])
        return True

    def _drop(self, feed: str, digests: Iterable[str]) -> None:
        for digest in list(digests):
            self.size_bytes -= self._kept[feed].pop(digest).value.nbytes


def feed_digest(feed: Mapping[str, Array]) -> str:
    """What an engine is fed, names, types, shapes and values, as a key."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(feed):
        value = np.ascontiguousarray(feed[name])
        digest.update(f"{name}:{value.dtype}:{value.shape};".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()

"""What to keep of a map for the maps that come after it, and what a map still has to compute."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from qsens.engines.lowering.tensor_graph import TensorGraph


@dataclass(frozen=True, eq=False)
class Wanted:
    """Digests to keep for one later map; they save it `macs` multiply-accumulates a sample."""

    digests: frozenset[str]
    macs: int


def wanted_of(graph: TensorGraph, kept: Iterable[str], coming: Iterable[TensorGraph]) -> list[Wanted]:
    """For each of the maps `coming`, what has to be kept of those before it, `graph` first.

    `kept` are the digests at hand when `graph` starts. A tensor that the map just before will compute
    anyway is not wanted any earlier: it is kept then. So a boundary that moves towards the outputs keeps
    one cut at a time, and one that moves towards the inputs keeps several at once.
    """
    at_hand = frozenset(kept)
    now = at_hand | graph.made_by(graph.frontier(at_hand))
    chosen: frozenset[str] = frozenset()
    before = now
    found: list[Wanted] = []
    for later in coming:
        without = later.frontier(before)
        best = later.frontier(now | before)
        gain = (without.macs if found else later.macs) - best.macs
        made_later = before - chosen if found else frozenset()
        digests = (later.digests_of(best) & now) - made_later
        found.append(Wanted(digests if gain > 0 else frozenset(), gain))
        chosen |= found[-1].digests
        before = chosen | later.made_by(later.frontier(chosen))
    return found


def ranks_of(wanted: Iterable[Wanted]) -> Mapping[str, int]:
    """How soon each digest is needed: 0 by the next map."""
    ranks: dict[str, int] = {}
    for rank, entry in enumerate(wanted):
        for digest in entry.digests:
            ranks.setdefault(digest, rank)
    return ranks

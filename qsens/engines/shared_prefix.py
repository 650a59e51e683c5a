"""Work shared between maps: tensors kept for later maps, to the same bits as running each map whole."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import onnx

from qsens.core.errors import BuildError
from qsens.core.precision import PrecisionMap
from qsens.engines.cpu_engines import OnnxRuntimeEngine, session_outputs
from qsens.engines.lowering.lowered_graph import LoweredGraph
from qsens.engines.lowering.tensor_graph import Frontier, TensorGraph, can_be_cut, rest_model, with_outputs

# Copying a kept byte out of a session takes about as long as this many multiply-accumulates.
MACS_PER_BYTE = 16
# A session of its own for what is left of a map is built where it saves at least this share of the map.
SMALLEST_SHARE = 0.05
# Maps that come next for which something is kept.
LOOK_AHEAD = 8
# Tensors are kept of some feeds and not of others where room is short: each such pattern is a session.
MOST_SESSIONS = 4
Array = np.ndarray[Any, np.dtype[Any]]
LowerMap = Callable[[PrecisionMap], LoweredGraph]


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
    """The rank of each digest by how soon a map needs it: 0 is the next map."""
    ranks: dict[str, int] = {}
    for rank, entry in enumerate(wanted):
        for digest in entry.digests:
            ranks.setdefault(digest, rank)
    return ranks


@dataclass(frozen=True, eq=False)
class _Kept:
    """A value and how soon it is needed: 0 is the next map."""

    value: Array
    rank: int


class KeptTensors:
    """Values that a later map would compute again, by feed and tensor digest, at most `limit_bytes` of them.

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
    """A key for a feed, from its names, types, shapes and values."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(feed):
        value = np.ascontiguousarray(feed[name])
        digest.update(f"{name}:{value.dtype}:{value.shape};".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


class SessionBuilder(Protocol):
    """The parts of backend `onnxruntime` that reuse builds on."""

    def build(self, lowered: LoweredGraph) -> Any: ...

    def open_session(self, model: onnx.ModelProto, *, weights: Mapping[str, Array] | None = None) -> Any: ...


class PrefixReuse:
    """Builds engines that keep tensors for the maps that come next, and begin where kept tensors end.

    For the maps of one `LoweringPlan` with one set of options. Kernels, their operands and their batches
    are those of a plain run, so outputs are the same to the last bit. `limit_bytes` bounds what is kept.
    """

    def __init__(self, builder: SessionBuilder, lower: LowerMap, limit_bytes: int) -> None:
        self._builder = builder
        self._lower = lower
        self._kept = KeptTensors(limit_bytes)
        self._coming: OrderedDict[PrecisionMap, TensorGraph] = OrderedDict()

    def build(self, lowered: LoweredGraph, coming: Sequence[PrecisionMap]) -> OnnxRuntimeEngine:
        """The engine of a map; `coming` are the maps that follow, in order.

        Raises:
            BuildError: as the backend does.
        """
        if not can_be_cut(lowered) or not (coming or self._kept.digests()):
            return self._whole(lowered)
        graph = TensorGraph.of(lowered)
        wanted = wanted_of(graph, self._kept.digests(), self._graphs_of(coming[:LOOK_AHEAD]))
        ranks = ranks_of(wanted)
        # What this map itself reads is needed first of all, and given up feed by feed.
        own = graph.digests_of(graph.frontier(self._kept.digests()))
        self._kept.retain({**ranks, **dict.fromkeys(own, -1)})
        handed_out = [name for name in _first_of_each(graph) if graph.digests[name] in ranks]
        wider = replace(lowered, detached=with_outputs(lowered.detached, handed_out))
        return _ReusingEngine(
            self._whole(wider), wider, _Reuse(graph, tuple(wanted), self._kept, self._builder)
        )

    def _whole(self, lowered: LoweredGraph) -> OnnxRuntimeEngine:
        engine = self._builder.build(lowered)
        assert isinstance(engine, OnnxRuntimeEngine), "only flavour `exact` is shared between maps"
        return engine

    def _graphs_of(self, coming: Iterable[PrecisionMap]) -> list[TensorGraph]:
        """Graphs of the maps that follow, up to one that cannot be lowered, which fails at its turn."""
        found = []
        for requested in coming:
            if requested not in self._coming:
                try:
                    self._coming[requested] = TensorGraph.of(self._lower(requested))
                except BuildError:
                    break
            self._coming.move_to_end(requested)
            found.append(self._coming[requested])
        while len(self._coming) > LOOK_AHEAD:
            self._coming.popitem(last=False)
        return found


@dataclass(frozen=True, eq=False)
class _Reuse:
    """Facts for an engine about the maps before and after it."""

    graph: TensorGraph
    wanted: tuple[Wanted, ...]
    kept: KeptTensors
    builder: SessionBuilder


@dataclass(frozen=True, eq=False)
class _Rest:
    """A session of what is left of a map, and what it is fed; no session where nothing is left."""

    session: Any | None
    inputs: tuple[str, ...]
    frontier: Frontier


class _ReusingEngine(OnnxRuntimeEngine):
    """An engine that runs what kept tensors do not already hold, and keeps what later maps want.

    `skipped_macs` are the multiply-accumulates, over all samples so far, that kept tensors stood for.
    """

    def __init__(self, plain: OnnxRuntimeEngine, lowered: LoweredGraph, reuse: _Reuse) -> None:
        super().__init__(plain.session, lowered, plain.applied)
        self._lowered = lowered
        self._reuse = reuse
        self._extra = frozenset(value.name for value in lowered.detached.skeleton.graph.output) - frozenset(
            reuse.graph.outputs
        )
        self._batched = [spec.name for spec in lowered.graph.inputs if spec.is_batched]
        self.skipped_macs = 0
        self._frontiers: dict[frozenset[str], Frontier] = {}
        self._rests: dict[tuple[str, ...], _Rest | None] = {}

    def run(self, batch: Mapping[str, Array]) -> Mapping[str, Array]:
        feed = feed_digest(batch)
        kept = self._reuse.kept.of_feed(feed)
        rest = self._rest(kept)
        values = self.all_outputs(batch) if rest is None else self._run_rest(rest, batch, kept)
        samples = len(batch[self._batched[0]]) if self._batched else 1
        if rest is not None:
            self.skipped_macs += (self._reuse.graph.macs - rest.frontier.macs) * samples
        self._keep(feed, values, samples)
        return self.without_counts({name: values[name] for name in self._reuse.graph.outputs})

    def close(self) -> None:
        self._rests.clear()
        super().close()

    def _rest(self, kept: Mapping[str, Array]) -> _Rest | None:
        """The session to run for a feed of which `kept` is there; `None` for the whole graph."""
        graph = self._reuse.graph
        there = frozenset(kept)
        if there not in self._frontiers:
            self._frontiers[there] = graph.frontier(there)
        frontier = self._frontiers[there]
        if graph.macs - frontier.macs < max(SMALLEST_SHARE * graph.macs, 1):
            return None
        if frontier.tensors not in self._rests:
            is_full = len(self._rests) >= MOST_SESSIONS
            self._rests[frontier.tensors] = None if is_full else self._open_rest(frontier, kept)
        return self._rests[frontier.tensors]

    def _open_rest(self, frontier: Frontier, kept: Mapping[str, Array]) -> _Rest:
        if not frontier.nodes:
            return _Rest(None, (), frontier)
        graph = self._reuse.graph
        made = {name for index in frontier.nodes for name in graph.nodes[index].makes}
        wished = [name for name in (*graph.outputs, *sorted(self._extra)) if name in made]
        model = rest_model(
            self._lowered.detached,
            frontier,
            types={name: kept[graph.digests[name]].dtype for name in frontier.tensors},
            outputs=wished,
        )
        session = self._reuse.builder.open_session(model.skeleton, weights=model.weights)
        return _Rest(session, tuple(value.name for value in model.skeleton.graph.input), frontier)

    def _run_rest(
        self, rest: _Rest, batch: Mapping[str, Array], kept: Mapping[str, Array]
    ) -> dict[str, Array]:
        graph = self._reuse.graph
        known = {name: kept[graph.digests[name]] for name in rest.frontier.tensors}
        if rest.session is None:
            return known
        feeds = {name: known[name] if name in known else batch[name] for name in rest.inputs}
        return known | session_outputs(rest.session, feeds)

    def _keep(self, feed: str, values: Mapping[str, Array], samples: int) -> None:
        store, graph = self._reuse.kept, self._reuse.graph
        wanted = {digest for entry in self._reuse.wanted for digest in entry.digests}
        before = frozenset(store.of_feed(feed))
        store.drop(feed, before - wanted)
        by_digest = {graph.digests[name]: value for name, value in values.items()}
        for rank, entry in enumerate(self._reuse.wanted):
            new = {digest: by_digest[digest] for digest in entry.digests - before if digest in by_digest}
            before |= new.keys()
            size_bytes = sum(value.nbytes for value in new.values())
            if entry.macs * samples >= size_bytes * MACS_PER_BYTE:
                store.keep(feed, new, rank)


def _first_of_each(graph: TensorGraph) -> Iterable[str]:
    """One tensor name for each digest, made by a node and not handed out anyway."""
    outputs = {graph.digests[name] for name in graph.outputs if name in graph.digests}
    first: dict[str, str] = {}
    for node in graph.nodes:
        for name in node.makes:
            first.setdefault(graph.digests[name], name)
    return (name for digest, name in first.items() if digest not in outputs)

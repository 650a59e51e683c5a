"""Engines of the maps of one run, sharing work between maps where the backend can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qsens.core.interfaces import Engine
from qsens.core.precision import PrecisionMap
from qsens.core.trial import Request, requested_map
from qsens.engines.lowering.lower import LoweredGraph, lower_graph

if TYPE_CHECKING:
    from qsens.run.stages import Workload


class MapEngines:
    """Lowers maps of a workload and builds their engines."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._announced: tuple[PrecisionMap, ...] = ()
        reusing = getattr(workload.backend, "reusing", None)
        self._reuse = None if reusing is None else reusing(self.lowered)

    def expect(self, requests: Sequence[Request]) -> None:
        """Hear which maps come next, in order, where `Workload.expected` could not tell yet."""
        self._announced = tuple(requested_map(request) for request in requests)

    def lowered(self, requested: PrecisionMap) -> LoweredGraph:
        """The map in the backend's flavour. Raises `BuildError` for one that cannot be lowered."""
        work = self._workload
        return lower_graph(work.plan, requested, work.ranges, work.options, work.backend.flavour)

    def build(self, lowered: LoweredGraph) -> Engine:
        """The engine of a lowered map. Raises `BuildError`."""
        if self._reuse is None:
            return self._workload.backend.build(lowered)
        engine: Engine = self._reuse.build(lowered, self._following(lowered.requested))
        return engine

    def _following(self, requested: PrecisionMap) -> Sequence[PrecisionMap]:
        for maps in (self._workload.expected, self._announced):
            if requested in maps:
                return maps[list(maps).index(requested) + 1 :]
        return ()

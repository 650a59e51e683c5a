"""The connections between a run's layers, kept in its folder for the picture of the network."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from qsens.core.errors import QsensError
from qsens.core.files import keep_record, kept_record
from qsens.core.layer import Layer
from qsens.graph.connections import layer_connections
from qsens.graph.graph import Graph


@dataclass(frozen=True)
class KeptConnections:
    """The layers that each layer takes its values `sources` from, by layer name."""

    sources: Mapping[str, tuple[str, ...]]


def connections_path(run: Path) -> Path:
    """The path of the file in the run folder `run`."""
    return run / "connections.json"


def keep_connections(run: Path, graph: Graph) -> None:
    """Write `connections.json`. Raises `RunFolderError` if that is impossible."""
    keep_record(connections_path(run), KeptConnections(layer_connections(graph)))


def read_connections(run: Path, layers: tuple[Layer, ...]) -> Mapping[str, tuple[str, ...]] | None:
    """The connections between `layers`; `None` in runs of older versions, or where the file is of others."""
    kept = kept_record(KeptConnections, connections_path(run))
    names = {layer.name for layer in layers}
    if kept is None or kept.sources.keys() != names:
        return None
    return kept.sources if names.issuperset(chain.from_iterable(kept.sources.values())) else None


def connect_older_run(run: Path) -> None:
    """Find the connections of a run that was begun before they were kept, where its generator opens."""
    if connections_path(run).exists():
        return
    # onnx and torch take seconds to load, which a report of a newer run does without
    from qsens.run.reopen import reopen_run

    try:
        graph = reopen_run(run).graph
    except QsensError:
        return
    keep_connections(run, graph)

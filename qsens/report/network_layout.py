"""Places of a network's blocks in a picture: columns by depth, lanes by branch, sizes by work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qsens.core.layer import Block, Layer, blocks_of

Connections = Mapping[str, tuple[str, ...]]
# Pixels: the tallest layer and the tallest block, and the least that each gets however little it computes.
_TALLEST, _TALLEST_BLOCK, _LEAST, _BLOCK_LEAST = 64.0, 150.0, 7.0, 80.0


@dataclass(frozen=True)
class PlacedLayer:
    """A layer and the height of its box, in pixels."""

    layer: Layer
    height: float


@dataclass(frozen=True)
class PlacedBlock:
    """A block with its `column` from the left and its `lane` from the top, both from 0."""

    name: str
    column: int
    lane: int
    layers: tuple[PlacedLayer, ...]

    @property
    def height(self) -> float:
        """The height of all its boxes with a pixel between them."""
        return sum(entry.height + 1 for entry in self.layers) - 1


@dataclass(frozen=True)
class NetworkLayout:
    """Blocks in their order, and `edges` from one to another by their places in that order."""

    blocks: tuple[PlacedBlock, ...]
    edges: tuple[tuple[int, int], ...]

    @property
    def columns(self) -> int:
        """The number of columns."""
        return 1 + max((block.column for block in self.blocks), default=-1)

    @property
    def lanes(self) -> tuple[float, ...]:
        """The height of each lane, that of its tallest block."""
        count = 1 + max((block.lane for block in self.blocks), default=-1)
        return tuple(
            max((block.height for block in self.blocks if block.lane == lane), default=0.0)
            for lane in range(count)
        )


def network_layout(layers: Sequence[Layer], connections: Connections | None) -> NetworkLayout:
    """Blocks in columns by the longest way to them, branches below the trunk.

    Without `connections` the blocks stand in a row, each leading to the next: the order in which they run.
    """
    blocks = blocks_of(layers)
    edges = _chain(len(blocks)) if connections is None else _edges(blocks, connections)
    columns = _columns(len(blocks), edges)
    lanes = _lanes(columns, edges)
    pixels = _pixels_per_mac(blocks)
    placed = tuple(
        PlacedBlock(block.name, columns[place], lanes[place], _sized(block, pixels))
        for place, block in enumerate(blocks)
    )
    return NetworkLayout(placed, edges)


def _pixels_per_mac(blocks: Sequence[Block]) -> float:
    layer = max((layer.macs for block in blocks for layer in block.layers), default=0)
    block = max((sum(layer.macs for layer in block.layers) for block in blocks), default=0)
    return min(_TALLEST / (layer or 1), _TALLEST_BLOCK / (block or 1))


def _sized(block: Block, pixels: float) -> tuple[PlacedLayer, ...]:
    least = min(_LEAST, _BLOCK_LEAST / len(block.layers))
    return tuple(PlacedLayer(layer, max(least, pixels * layer.macs)) for layer in block.layers)


def _chain(count: int) -> tuple[tuple[int, int], ...]:
    return tuple((place, place + 1) for place in range(count - 1))


def _edges(blocks: Sequence[Block], connections: Connections) -> tuple[tuple[int, int], ...]:
    """Edges between different blocks, forwards only: blocks that take turns would make a circle."""
    place_of = {layer.name: place for place, block in enumerate(blocks) for layer in block.layers}
    found = {
        (place_of[source], place_of[target]) for target, sources in connections.items() for source in sources
    }
    return tuple(sorted(edge for edge in found if edge[0] < edge[1]))


def _columns(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The longest way to each block; a branch that starts late stands right before where it joins."""
    columns = [0] * count
    for source, target in edges:  # sorted by source, whose own column is final by then
        columns[target] = max(columns[target], columns[source] + 1)
    for place in reversed(range(count)):
        after = [columns[target] for source, target in edges if source == place]
        if after:
            columns[place] = min(after) - 1
    return columns


def _lanes(columns: Sequence[int], edges: Sequence[tuple[int, int]]) -> list[int]:
    """The lane of the block before, where that is free; what begins a branch gets a lane below."""
    before: dict[int, list[int]] = {}
    for source, target in edges:
        before.setdefault(target, []).append(source)
    lanes = [0] * len(columns)
    for column in range(max(columns, default=-1) + 1):
        members = [place for place, mine in enumerate(columns) if mine == column]
        taken: set[int] = set()
        for place in sorted(members, key=lambda place: place not in before):
            wished = min((lanes[source] for source in before.get(place, ())), default=0)
            free = (lane for lane in range(wished, wished + len(columns)) if lane not in taken)
            lanes[place] = next(free)
            taken.add(lanes[place])
    return lanes

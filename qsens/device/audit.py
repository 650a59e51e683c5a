"""Asked and got: the precision of every layer against what the engine executes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Mapping, Protocol, Sequence

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ExecutedLayer:
    """One step of an engine as its runtime describes it.

    `name` is the engine's own name. `nodes` are the ONNX nodes computed in it, empty where the runtime does
    not tell. `precision` is `int8`, `fp16` or `fp32` of the arithmetic, `None` where the runtime does not
    tell. `kernel` is the runtime's word for what runs it. `is_reformat` marks steps that only change type
    or layout. `note` says what a reader must know about its numbers (`saturates`), empty where nothing.
    """

    name: str
    nodes: tuple[str, ...]
    precision: str | None
    kernel: str
    is_reformat: bool = False
    note: str = ""


class DeviceEngine(Protocol):
    """An engine that is loaded and ready to run.

    `runtime` is the runtime's name, `version` its version, `size_bytes` what the deployed file holds.
    """

    runtime: str
    version: str
    size_bytes: int

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name for inputs with their batch axis.

        Raises:
            DeviceError: with the runtime's own words.
        """
        ...

    def executed_layers(self) -> tuple[ExecutedLayer, ...]:
        """The layers of the engine in execution order; empty where the runtime does not tell."""
        ...

    def step_times_ms(self, feeds: Mapping[str, Array], repeats: int) -> dict[str, float]:
        """Median milliseconds by name of the executed layer; empty where the runtime has no profile."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class AskedLayer:
    """The precision that one layer should run in: asked for in the map, and expected of this flavour.

    `requested` is the precision map's word; `expected` what the runtime's flavour makes of it (an FP16
    layer is FP32 on a CPU without FP16). Precisions are `int8`, `fp16` or `fp32`.
    """

    layer: str
    node: str
    requested: str
    expected: str


@dataclass(frozen=True)
class LayerAudit:
    """One layer under its three names, what was asked of it and what runs.

    `engine_layer` is the engine's name of the step that computes the layer and `actual` its precision;
    both are `None` where the runtime does not tell. `fused_with` are the other ONNX nodes of that step,
    `reformats` the steps beside it that only change type or layout.
    """

    layer: str
    node: str
    engine_layer: str | None
    requested: str
    expected: str
    actual: str | None
    fused_with: tuple[str, ...] = ()
    reformats: int = 0
    note: str = ""

    @property
    def is_mismatch(self) -> bool:
        """Whether the engine runs something else than expected; what it does not tell is no mismatch."""
        return self.actual is not None and self.actual != self.expected

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {**asdict(self), "fused_with": list(self.fused_with)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LayerAudit:
        """Read what `to_json` wrote."""
        return cls(**{**value, "fused_with": tuple(value["fused_with"])})


def audit_layers(asked: Sequence[AskedLayer], executed: Sequence[ExecutedLayer]) -> tuple[LayerAudit, ...]:
    """One row for every asked layer, found in the engine by its ONNX node."""
    steps: dict[str, int] = {}
    for place, step in enumerate(executed):
        for node in step.nodes:
            steps.setdefault(node, place)
    return tuple(_audited(layer, steps.get(layer.node), executed) for layer in asked)


def mismatches(audits: Sequence[LayerAudit]) -> list[LayerAudit]:
    """The rows where the engine runs something else than expected."""
    return [row for row in audits if row.is_mismatch]


def _audited(layer: AskedLayer, place: int | None, executed: Sequence[ExecutedLayer]) -> LayerAudit:
    if place is None:
        return LayerAudit(
            layer.layer,
            layer.node,
            None,
            layer.requested,
            layer.expected,
            None,
            note="not found in the engine",
        )
    step = executed[place]
    neighbours = [*executed[max(0, place - 1) : place], *executed[place + 1 : place + 2]]
    return LayerAudit(
        layer=layer.layer,
        node=layer.node,
        engine_layer=step.name,
        requested=layer.requested,
        expected=layer.expected,
        actual=step.precision,
        fused_with=tuple(node for node in step.nodes if node != layer.node),
        reformats=sum(1 for neighbour in neighbours if neighbour.is_reformat),
        note=step.note,
    )

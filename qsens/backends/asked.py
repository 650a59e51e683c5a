"""What a lowered graph asks of an engine, layer by layer, and what the engine's audit makes of it."""

from collections.abc import Sequence

from qsens.core.precision import Precision, PrecisionMap
from qsens.device.audit import AskedLayer, LayerAudit
from qsens.engines.lowering.lowered_graph import LoweredGraph


def asked_layers(lowered: LoweredGraph) -> tuple[AskedLayer, ...]:
    """Every layer in execution order: what the map requests and what the flavour should make of it."""
    names = [layer.name for layer in lowered.graph.layers]
    requested = lowered.requested.assignment(names)
    expected = lowered.expected.assignment(names)
    return tuple(
        AskedLayer(layer.name, layer.node, str(requested[layer.name]), str(expected[layer.name]))
        for layer in lowered.graph.layers
    )


def applied_from_audit(audit: Sequence[LayerAudit], lowered: LoweredGraph) -> PrecisionMap:
    """The canonical map of what runs: the audit's word where the runtime tells, else what was expected."""
    expected = lowered.expected.assignment(layer.name for layer in lowered.graph.layers)
    told = {row.layer: Precision(row.actual) for row in audit if row.actual is not None}
    return PrecisionMap.over({name: told.get(name, value) for name, value in expected.items()})

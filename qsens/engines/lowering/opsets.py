"""The prepared graph in the operator set that a flavour wants."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import onnx
import onnx.version_converter
from onnx import helper

from qsens.core.errors import BuildError
from qsens.engines.lowering.downgrade import Downgrade
from qsens.engines.lowering.plan import LoweringPlan
from qsens.graph.editable_graph import Draft, is_onnx_domain, lowest_ir_version, tensors_captured
from qsens.graph.topology import Topology

# In bytes: rules of the converter read constants such as axes and sizes, and leave weights alone.
LARGEST_INSIDE = 1024


@dataclass(frozen=True, eq=False)
class Template:
    """The graph that a lowering walks. `origins` names the prepared graph's node for each piece of it."""

    topology: Topology
    opset: int
    origins: Mapping[str, str] = field(default_factory=dict, repr=False)

    @cached_property
    def nodes(self) -> tuple[onnx.NodeProto, ...]:
        """The nodes in execution order."""
        return tuple(self.topology.model.graph.node)

    @cached_property
    def fixed_names(self) -> frozenset[str]:
        """Tensors that must keep name and type: graph outputs, and what branches read by name."""
        return self.topology.outputs.union(*map(tensors_captured, self.nodes))

    def results_of(self, node: onnx.NodeProto) -> tuple[str, ...]:
        """The prepared graph's tensors that `node`, or the node it is a piece of, makes."""
        return tuple(self.topology.nodes[self.origin(node)].output)

    def origin(self, node: onnx.NodeProto) -> str:
        """The name of the prepared graph's node that `node` is, or is a piece of."""
        return self.origins.get(node.name, str(node.name))


def template_within(plan: LoweringPlan, opsets: tuple[int, int] | None) -> Template:
    """The plan's graph in an operator set of at least the first and at most the second of `opsets`.

    Made once for each plan; `None` leaves the graph as it is.

    Raises:
        BuildError: naming the node that cannot be written in the wanted set.
    """
    own = _opset(plan.topology.model)
    if opsets is None or opsets[0] <= own <= opsets[1]:
        return Template(plan.topology, own)
    key = ("template", opsets)
    if key not in plan.memo:
        plan.memo[key] = (
            _raised(plan, opsets[0]) if own < opsets[0] else _lowered(plan, own, target=opsets[1])
        )
    template: Template = plan.memo[key]
    return template


def _opset(model: onnx.ModelProto) -> int:
    return next(int(entry.version) for entry in model.opset_import if is_onnx_domain(entry.domain))


def _raised(plan: LoweringPlan, target: int) -> Template:
    skeleton, names = _skeleton(plan)
    try:
        converted = onnx.version_converter.convert_version(skeleton, target)
    # The converter raises classes of its own and RuntimeError alike.
    except Exception as error:
        raise BuildError(
            f"the graph cannot be raised to ONNX operator set {target}: {str(error).strip().splitlines()[0]}",
            f"export the generator with opset_version={target}",
        ) from error
    draft = Draft.take_apart(converted)
    kept = [value for value in draft.header.graph.input if value.name not in names]
    del draft.header.graph.input[:]
    draft.header.graph.input.extend(kept)
    draft.name_nodes()
    model = _with_header(plan.topology.model, draft.nodes, target)
    model.graph.initializer.extend(draft.initializers.values())
    missing = {layer.node for layer in plan.graph.layers} - {node.name for node in draft.nodes}
    assert not missing, f"the converter renamed {missing}"
    return Template(Topology(model, plan.topology.initializers), target)


def _skeleton(plan: LoweringPlan) -> tuple[onnx.ModelProto, frozenset[str]]:
    """The graph with large weights as inputs, which need no copying, and the names of these."""
    source = plan.topology.model
    skeleton = _with_header(source, source.graph.node, None)
    large = []
    for tensor in source.graph.initializer:
        if len(tensor.raw_data) <= LARGEST_INSIDE:
            skeleton.graph.initializer.append(tensor)
        else:
            large.append(tensor.name)
            skeleton.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return skeleton, frozenset(large)


def _with_header(source: onnx.ModelProto, nodes: object, opset: int | None) -> onnx.ModelProto:
    """`nodes` between the inputs and outputs of `source`, with its value types."""
    model = onnx.ModelProto(ir_version=source.ir_version)
    model.graph.name = source.graph.name
    model.graph.input.extend(source.graph.input)
    model.graph.output.extend(source.graph.output)
    model.graph.value_info.extend(source.graph.value_info)
    model.graph.node.extend(nodes)
    for entry in source.opset_import:
        changes = opset is not None and is_onnx_domain(entry.domain)
        model.opset_import.add(domain=entry.domain, version=opset if changes else entry.version)
    if opset is not None:
        model.ir_version = lowest_ir_version(model.opset_import)
    return model


def _lowered(plan: LoweringPlan, own: int, *, target: int) -> Template:
    downgrade = Downgrade(plan.topology, own, target)
    nodes: list[onnx.NodeProto] = []
    origins: dict[str, str] = {}
    for node in plan.topology.model.graph.node:
        pieces = downgrade.rewritten(node)
        nodes += pieces
        origins.update({piece.name: node.name for piece in pieces if piece.name != node.name})
    model = _with_header(plan.topology.model, nodes, target)
    model.graph.initializer.extend(downgrade.constants)
    return Template(Topology(model, plan.topology.initializers), target, origins)

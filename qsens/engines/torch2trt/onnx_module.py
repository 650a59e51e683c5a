"""A prepared ONNX graph as a torch module with a submodule for each node, named as the layers are."""

from collections.abc import Iterator, Mapping, Sequence

import torch

from qsens.engines.torch2trt.operators import Operation, operation_of
from qsens.engines.torch2trt.shape_operators import NodeView
from qsens.graph.graph import Graph
from qsens.graph.topology import Topology


class NodeModule(torch.nn.Module):  # type: ignore[misc]  # torch's types are not looked at
    """The place of one node in the tree of modules, or only a step on the way to others."""

    def __init__(self) -> None:
        super().__init__()
        self.view: NodeView | None = None
        self.operation: Operation | None = None

    def forward(self, *operands: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        """Outputs of the node; optional operands that are left out are `None`."""
        assert self.operation is not None, "only nodes are called"
        result = self.operation(*operands)
        return result if isinstance(result, tuple) else (result,)


class OnnxModule(torch.nn.Module):  # type: ignore[misc]
    """Executes the nodes of a graph in order; takes its inputs and returns its outputs in the graph's order.

    A layer's module path is its qualified name, any other node's is its name; see `module_paths`. A module
    is good for one conversion: torch2trt leaves marks on the constants.

    Raises:
        BuildError: naming node and operator, for what torch2trt cannot convert or silently gets wrong.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        topology = Topology(graph.model)
        self.views = tuple(NodeView.of(node, topology) for node in graph.model.graph.node)
        self.paths = module_paths(graph)
        # A plain mapping: constants are operands, not parameters of a submodule.
        self.constants = _constants(self.views, topology)
        for view in self.views:
            place = self._place(self.paths[view.name])
            place.view = view
            place.operation = operation_of(view)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Graph outputs for float32 inputs with their batch axis."""
        values: dict[str, torch.Tensor] = {**self.constants}
        values.update(zip((spec.name for spec in self.graph.inputs), inputs, strict=True))
        for view in self.views:
            operands = [values[name] if name else None for name in view.inputs]
            outputs = self.get_submodule(self.paths[view.name])(*operands)
            values.update(zip(view.outputs, outputs, strict=False))
        return tuple(values[name] for name in self.graph.outputs)

    def node_modules(self) -> Iterator[NodeModule]:
        """The modules of the nodes, in execution order."""
        for view in self.views:
            module = self.get_submodule(self.paths[view.name])
            assert isinstance(module, NodeModule)
            yield module

    def _place(self, path: str) -> NodeModule:
        """The module at `path`, made with all steps on the way."""
        place: torch.nn.Module = self
        for part in path.split("."):
            if part not in place._modules:
                place.add_module(part, NodeModule())
            found = place._modules[part]
            assert found is not None
            place = found
        assert isinstance(place, NodeModule)
        return place


def module_paths(graph: Graph) -> dict[str, str]:
    """Module path of every node, by node name.

    Torch forbids empty parts and parts that are attributes of a module; those get a `_`. Paths that would
    then be the same get `~2`, `~3`.
    """
    layer_of = {layer.node: layer.name for layer in graph.layers}
    paths: dict[str, str] = {}
    taken: set[str] = set()
    # Layers first: where a node's name is a layer's, the layer keeps it.
    names = [*layer_of, *(node.name for node in graph.model.graph.node if node.name not in layer_of)]
    for name in names:
        base = ".".join(_part(part) for part in layer_of.get(name, name).split("."))
        path, count = base, 1
        while path in taken:
            count += 1
            path = f"{base}~{count}"
        taken.add(path)
        paths[name] = path
    return paths


def _part(part: str) -> str:
    is_forbidden = not part or hasattr(_EXAMPLE, part)
    return f"{part}_" if is_forbidden else part


def _constants(views: Sequence[NodeView], topology: Topology) -> Mapping[str, torch.Tensor]:
    names = dict.fromkeys(name for view in views for name in view.inputs if name in topology.initializers)
    return {name: torch.tensor(topology.constant(name)) for name in names}


_EXAMPLE = NodeModule()

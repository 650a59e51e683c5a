"""One ONNX node as a torch operation is made from it: attributes, constants, shapes, and refusals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper

from qsens.core.errors import BuildError
from qsens.graph.topology import Topology

OTHER_BACKEND = "use backend tensorrt, which takes the ONNX graph itself"
Values = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class NodeView:
    """Read-only view of a node of a prepared graph; `inputs` and `outputs` are tensor names.

    An omitted optional input is the empty name.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    topology: Topology = field(repr=False)
    attributes: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, node: onnx.NodeProto, topology: Topology) -> "NodeView":
        """The view of `node`."""
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        return cls(
            node.name, node.op_type, tuple(node.input), tuple(node.output), topology, _decoded(attributes)
        )

    def refusal(self, reason: str, hint: str = OTHER_BACKEND) -> BuildError:
        """The error that says why this node cannot be expressed."""
        return BuildError(
            f"backend torch2trt cannot express node {self.name!r} ({self.operator}): {reason}", hint
        )

    def has(self, place: int) -> bool:
        """Whether the optional input is given."""
        return len(self.inputs) > place and bool(self.inputs[place])

    def is_constant(self, place: int) -> bool:
        """Whether the input is given and does not depend on the graph's inputs."""
        return self.has(place) and self.inputs[place] in self.topology.initializers

    def constant(self, place: int) -> Values:
        """Value of a constant input. Raises `BuildError` where it is computed from the graph's inputs."""
        if not self.is_constant(place):
            raise self.refusal(f"its input {place} is not constant")
        return self.topology.constant(self.inputs[place])

    def integers(self, place: int, attribute: str) -> list[int] | None:
        """Integers that newer operator sets give as an input and older ones as an attribute."""
        if self.has(place):
            return [int(value) for value in self.constant(place).reshape(-1)]
        found = self.attributes.get(attribute)
        return None if found is None else [int(value) for value in found]

    def shape(self, tensor: str) -> Shape:
        """Inferred shape, `None` for a free side. Raises `BuildError` where even the rank is unknown."""
        if tensor in self.topology.initializers:
            return tuple(self.topology.initializers[tensor].dims)
        if tensor not in self.topology.shapes:
            raise self.refusal(f"the shape of {tensor!r} is unknown before it runs")
        return self.topology.shapes[tensor]

    def rank(self, place: int = 0) -> int:
        """Number of axes of an input."""
        return len(self.shape(self.inputs[place]))

    def axis(self, value: int) -> int:
        """An axis of the first input, counted from the front."""
        return value % self.rank()

    def refuse_attributes(self, usual: Mapping[str, Sequence[Any]]) -> None:
        """Raise `BuildError` for an attribute whose value is none of those listed for it."""
        for attribute, allowed in usual.items():
            value = self.attributes.get(attribute, allowed[0])
            if value not in allowed:
                raise self.refusal(f"{attribute} is {value!r}")


def _decoded(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}

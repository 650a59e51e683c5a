"""FP16 and FP32 names of the tensors of a strongly typed graph, and the casts between them."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from qsens.engines.lowering.emit import Emitter
from qsens.engines.lowering.opsets import Template
from qsens.graph.topology import data_inputs

Values = np.ndarray[Any, np.dtype[Any]]


class TensorTypes:
    """Knows in which type every tensor was made; casts it once for readers of the other type.

    A tensor keeps its name in the type it is made in. Graph outputs, and tensors that branches capture by
    name, keep it in float32. `lost` counts constants of a node that became infinite in FP16.
    """

    def __init__(self, emitter: Emitter, template: Template) -> None:
        self.emitter = emitter
        self.template = template
        self.lost: dict[str, int] = {}
        self._half_names: dict[str, str] = {}

    def operands(self, node: onnx.NodeProto, *, is_half: bool, given: Mapping[str, str]) -> dict[str, str]:
        """Inputs to be replaced so that the node computes in FP16 or FP32; `given` ones are taken over."""
        replaced = dict(given)
        positions = data_inputs(node, self.template.opset) if is_half else frozenset[int]()
        for place, name in enumerate(node.input):
            if not name or name in replaced:
                continue
            if name not in self.emitter.topology.initializers:
                replaced[name] = self.name(name, is_half=place in positions)
            elif place in positions:
                replaced[name] = self._half_constant(node, name)
        return {old: new for old, new in replaced.items() if old != new}

    def name(self, tensor: str, *, is_half: bool) -> str:
        """The name of `tensor` in the type, cast if it was made in the other one."""
        if is_half and tensor not in self._half_names:
            return self._cast(tensor, f"{tensor}:half", TensorProto.FLOAT16)
        if is_half:
            return self._half_names[tensor]
        if self._half_names.get(tensor) == tensor:
            return self._cast(tensor, f"{tensor}:float", TensorProto.FLOAT)
        return tensor

    def result(self, tensor: str, *, is_half: bool) -> str:
        """The name under which `tensor` is made in the type."""
        if not is_half:
            return tensor
        is_fixed = tensor in self.template.fixed_names
        self._half_names[tensor] = f"{tensor}:half" if is_fixed else tensor
        return self._half_names[tensor]

    def finish(self, tensors: Iterable[str]) -> None:
        """Cast the tensors among `tensors`, just made in FP16, whose own name is float32."""
        for tensor in tensors:
            half = self._half_names.get(tensor, tensor)
            if half != tensor:
                self.emitter.node("Cast", [half], tensor, to=TensorProto.FLOAT)

    def _cast(self, tensor: str, output: str, kind: int) -> str:
        return self.emitter.once(output, lambda name: self.emitter.node("Cast", [tensor], name, to=kind))

    def _half_constant(self, node: onnx.NodeProto, name: str) -> str:
        """The FP16 twin of a float32 initializer; other types are left as they are."""
        if self.emitter.topology.initializers[name].data_type != TensorProto.FLOAT:
            return name
        half, lost = self.emitter.half_constant(name)
        if lost:
            self.lost[node.name] = self.lost.get(node.name, 0) + lost
        return self.emitter.constant(f"{name}:fp16", half)

"""`Emitter`, which writes nodes and constants of a lowered graph, each shared piece once."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import TensorProto, helper

from qsens.engines.lowering.lowered_graph import DetachedModel, add_initializers
from qsens.graph.editable_graph import tensors_read
from qsens.graph.topology import Topology

ZERO_POINT = "qsens:int8_zero"
Values = np.ndarray[Any, np.dtype[Any]]
T = TypeVar("T")


class Emitter:
    """Collects the nodes and initializers of one lowered graph.

    `memo` outlives it: what does not depend on the map (quantized weights) is computed once per graph.
    """

    def __init__(self, topology: Topology, memo: dict[str, Any]) -> None:
        self.topology = topology
        self.memo = memo
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Values] = {}
        self._made: set[str] = set()

    def node(self, operator: str, inputs: Iterable[str], output: str, **attributes: Any) -> str:
        """Append a node named after its output and return the output."""
        self.nodes.append(
            helper.make_node(
                operator, list(inputs), [output], name=f"qsens/{output}/{operator}", **attributes
            )
        )
        return output

    def copy(
        self,
        node: onnx.NodeProto,
        *,
        renamed: Mapping[str, str],
        replaced: Mapping[str, str] | None = None,
    ) -> None:
        """Append `node` with outputs renamed and inputs replaced."""
        replaced = replaced or {}
        if not renamed and not replaced:
            self.nodes.append(node)
            return
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        twin.input[:] = [replaced.get(name, name) for name in node.input]
        twin.output[:] = [renamed.get(name, name) for name in node.output]
        self.nodes.append(twin)

    def constant(self, name: str, value: Values) -> str:
        """Add an initializer once and return its name."""
        if name not in self.constants:
            self.constants[name] = np.asarray(value, order="C")  # keeps scalars scalars
        return name

    def remembered(self, key: str, compute: Callable[[], T]) -> T:
        """The value computed for `key` the first time any lowering of this graph asked for it."""
        if key not in self.memo:
            self.memo[key] = compute()
        value: T = self.memo[key]
        return value

    def half_constant(self, name: str) -> tuple[Values, int]:
        """An initializer in FP16, and how many of its finite values became infinite."""
        return self.remembered(f"{name}:fp16", lambda: _half_and_lost(self.topology.constant(name)))

    def once(self, name: str, emit: Callable[[str], object]) -> str:
        """Emit what makes `name` the first time it is asked for."""
        if name not in self._made:
            self._made.add(name)
            emit(name)
        return name

    def codes(self, tensor: str, source: str, scale: np.float32) -> str:
        """INT8 codes of `tensor`: round half to even of `source / scale`, clamped to -128..127.

        `source` holds the values, under another name where `tensor` itself is made from the codes.
        """

        def quantize(name: str) -> None:
            zero = self.constant(ZERO_POINT, np.zeros((), np.int8))
            scales = self.constant(f"{tensor}:scale", np.asarray(scale, np.float32))
            self.node("QuantizeLinear", [source, scales, zero], name)

        return self.once(f"{tensor}:codes", quantize)

    def code_values(self, tensor: str, scale: np.float32) -> str:
        """The INT8 codes of `tensor` as float32 integers."""
        return self.once(
            f"{tensor}:code_values",
            lambda name: self.node("Cast", [self.codes(tensor, tensor, scale)], name, to=TensorProto.FLOAT),
        )

    def fake_quantize(self, tensor: str, source: str, output: str, scale: np.float32) -> None:
        """Put the grid points of `source` (the values of `tensor`), in real units, into `output`."""
        codes = self.codes(tensor, source, scale)
        zero = self.constant(ZERO_POINT, np.zeros((), np.int8))
        scales = self.constant(f"{tensor}:scale", np.asarray(scale, np.float32))
        self.node("DequantizeLinear", [codes, scales, zero], output)

    def count_infinite(self, half: str) -> str:
        """Append a scalar float32 output: how many values of an FP16-rounded tensor are infinite."""
        infinite = self.node("IsInf", [half], f"{half}:is_inf")
        numbers = self.node("Cast", [infinite], f"{half}:as_number", to=TensorProto.FLOAT)
        return self.node("ReduceSum", [numbers], f"{half}:overflows", keepdims=0)

    def model(self, template: onnx.ModelProto, extra_outputs: Iterable[str]) -> DetachedModel:
        """The finished model: inputs, outputs and used initializers of `template`, and what was emitted."""
        used = {name for node in self.nodes for name in tensors_read(node)} | {
            value.name for value in template.graph.output
        }
        graph = onnx.GraphProto(name=template.graph.name)
        graph.node.extend(self.nodes)
        graph.input.extend(template.graph.input)
        graph.output.extend(template.graph.output)
        graph.output.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in extra_outputs
        )
        kept = {name: self.topology.constant(name) for name in self.topology.initializers if name in used}
        emitted = {name: value for name, value in self.constants.items() if name in used}
        weights = add_initializers(graph, kept | emitted)
        model = onnx.ModelProto(ir_version=template.ir_version, graph=graph)
        model.opset_import.extend(template.opset_import)
        return DetachedModel(model, weights)


def _half_and_lost(value: Values) -> tuple[Values, int]:
    with np.errstate(over="ignore"):
        half = value.astype(np.float16)
    return half, int(np.count_nonzero(np.isinf(half) & np.isfinite(value)))


def cast_pair(emitter: Emitter, source: str, output: str) -> str:
    """Round `source` to FP16 and back to float32 as `output`; values beyond 65504 become infinite."""
    half = emitter.node("Cast", [source], f"{output}:half", to=TensorProto.FLOAT16)
    return emitter.node("Cast", [half], output, to=TensorProto.FLOAT)

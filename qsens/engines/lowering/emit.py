"""`Emitter`, which writes nodes and constants of a lowered graph, each shared piece once."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import TensorProto, helper

from qsens.engines.lowering.lowered_graph import DetachedModel, add_initializers
from qsens.engines.lowering.plan import TensorGrid
from qsens.graph.editable_graph import tensors_read
from qsens.graph.topology import Topology

Values = np.ndarray[Any, np.dtype[Any]]
Key = tuple[object, ...]
T = TypeVar("T")


class Emitter:
    """Collects the nodes and initializers of one lowered graph.

    `memo` outlives it: what does not depend on the map (quantized weights) is computed once per graph. Names
    that it does not take from the graph come from `made`.
    """

    def __init__(self, topology: Topology, memo: dict[Key, Any]) -> None:
        self.topology = topology
        self.memo = memo
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Values] = {}
        self._made: set[str] = set()

    def made(self, base: str, part: str) -> str:
        """The name `base:part`, of something that belongs to the name `base`."""
        return self.topology.names.made(base, part)

    def node(self, operator: str, inputs: Iterable[str], output: str, **attributes: Any) -> str:
        """Append a node named after its output and return the output."""
        name = self.topology.names.made(f"qsens/{output}", operator, "/")
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=name, **attributes))
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

    def shared(self, part: str, value: int, kind: type[np.number[Any]]) -> str:
        """Name of a scalar that belongs to no tensor."""
        return self.constant(self.made("qsens", part), np.full((), value, kind))

    def remembered(self, key: Key, compute: Callable[[], T]) -> T:
        """The value computed for `key` the first time any lowering of this graph asked for it."""
        if key not in self.memo:
            self.memo[key] = compute()
        value: T = self.memo[key]
        return value

    def half_constant(self, name: str) -> tuple[Values, int]:
        """An initializer in FP16, and how many of its finite values became infinite."""
        return self.remembered(("half", name), lambda: _half_and_lost(self.topology.constant(name)))

    def once(self, name: str, emit: Callable[[str], object]) -> str:
        """Emit what makes `name` the first time it is asked for."""
        if name not in self._made:
            self._made.add(name)
            emit(name)
        return name

    def codes(self, tensor: str, source: str, grid: TensorGrid) -> str:
        """Codes of `tensor`: round half to even of `source / scale`, clamped to -128..127 or 0..255.

        `source` holds the values, under another name where `tensor` itself is made from the codes.
        """

        def quantize(name: str) -> None:
            self.node("QuantizeLinear", [source, *self._scale_and_zero(tensor, grid)], name)

        return self.once(self.made(tensor, "codes"), quantize)

    def _scale_and_zero(self, tensor: str, grid: TensorGrid) -> tuple[str, str]:
        scale = self.constant(self.made(tensor, "scale"), np.asarray(grid.scale, np.float32))
        zero = (
            self.shared("uint8_zero", 0, np.uint8)
            if grid.is_unsigned
            else self.shared("int8_zero", 0, np.int8)
        )
        return scale, zero

    def code_values(self, tensor: str, grid: TensorGrid) -> str:
        """The codes of `tensor` as float32 integers."""
        return self.once(
            self.made(tensor, "code_values"),
            lambda name: self.node("Cast", [self.codes(tensor, tensor, grid)], name, to=TensorProto.FLOAT),
        )

    def fake_quantize(self, tensor: str, source: str, output: str, grid: TensorGrid) -> None:
        """Put the grid points of `source` (the values of `tensor`), in real units, into `output`."""
        codes = self.codes(tensor, source, grid)
        self.node("DequantizeLinear", [codes, *self._scale_and_zero(tensor, grid)], output)

    def count_infinite(self, half: str) -> str:
        """Append a scalar float32 output: how many values of an FP16-rounded tensor are infinite."""
        infinite = self.node("IsInf", [half], self.made(half, "is_inf"))
        numbers = self.node("Cast", [infinite], self.made(half, "as_number"), to=TensorProto.FLOAT)
        return self.node("ReduceSum", [numbers], self.made(half, "overflows"), keepdims=0)

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
        given = [*(value.name for value in graph.input), *kept, *emitted]
        _check_distinct([*given, *(name for node in self.nodes for name in node.output if name)])
        weights = add_initializers(graph, kept | emitted)
        model = onnx.ModelProto(ir_version=template.ir_version, graph=graph)
        model.opset_import.extend(template.opset_import)
        return DetachedModel(model, weights)


def _check_distinct(tensors: list[str]) -> None:
    """A tensor that is made twice is the wrong one for somebody, and no runtime need notice."""
    twice = [name for name, count in Counter(tensors).items() if count > 1]
    assert not twice, f"several tensors are named {twice[0]!r}"


def _half_and_lost(value: Values) -> tuple[Values, int]:
    with np.errstate(over="ignore"):
        half = value.astype(np.float16)
    return half, int(np.count_nonzero(np.isinf(half) & np.isfinite(value)))


def cast_pair(emitter: Emitter, source: str, output: str) -> str:
    """Round `source` to FP16 and back to float32 as `output`; values beyond 65504 become infinite."""
    half = emitter.node("Cast", [source], emitter.made(output, "half"), to=TensorProto.FLOAT16)
    return emitter.node("Cast", [half], output, to=TensorProto.FLOAT)

"""Writes types and ranges onto the layers and tensors of a populated TensorRT network."""

from collections.abc import Sequence
from typing import Any

from qsens.core.errors import BuildError
from qsens.core.precision import Precision
from qsens.engines.torch2trt.implicit_types import ImplicitTypes, NodeTypes
from qsens.engines.torch2trt.network import ConvertedNetwork, float_outputs, main_layer

# Steps that compute nothing: they take the type of what they move.
_UNTYPED = frozenset({"CONSTANT", "SHAPE", "SHUFFLE"})
_TYPES = {Precision.INT8: "INT8", Precision.FP16: "HALF", Precision.FP32: "FLOAT"}


def write_types(converted: ConvertedNetwork, types: ImplicitTypes, trt: Any) -> None:
    """Precision and output types of every layer, and the range of every tensor that INT8 needs.

    The outputs of the network stay float32.

    Raises:
        BuildError: for a range that TensorRT refuses, or an INT8 node that became several computing layers.
    """
    for node, wanted in types.nodes.items():
        _write_node(node, converted.layers[node], wanted, trt)
    ranges = _Ranges()
    for name, amax in types.amax.items():
        ranges.give(converted.tensors[name], amax)
    for node, wanted in types.nodes.items():
        if wanted.precision is Precision.INT8:
            ranges.spread(converted.layers[node])


def _write_node(node: str, layers: Sequence[Any], wanted: NodeTypes, trt: Any) -> None:
    computing = [layer for layer in layers if layer.type.name not in _UNTYPED and float_outputs(layer)]
    if wanted.precision is Precision.INT8 and len(computing) > 1:
        raise BuildError(
            f"torch2trt makes {len(computing)} layers of node {node!r}: INT8 takes one",
            "pin the layer with --pin LAYER=fp16, or use backend tensorrt",
        )
    for layer in computing:
        if wanted.precision is not None:
            layer.precision = getattr(trt.DataType, _TYPES[wanted.precision])
    if wanted.output is None or not layers:
        return
    kind = getattr(trt.DataType, _TYPES[wanted.output])
    # In INT8, what is shuffled before the convolution is its operand, and has the operand's type.
    first = layers.index(main_layer(layers)) if wanted.precision is Precision.INT8 else 0
    for layer in layers[first:]:
        for place in float_outputs(layer):
            if layer.type.name != "CONSTANT" and not layer.get_output(place).is_network_output:
                layer.set_output_type(place, kind)


class _Ranges:
    """Ranges given so far, by tensor name."""

    def __init__(self) -> None:
        self._given: dict[str, float] = {}

    def give(self, tensor: Any, amax: float) -> None:
        """Set the range, -amax to amax."""
        if not tensor.set_dynamic_range(-amax, amax):
            raise BuildError(
                f"TensorRT refuses the range {amax:g} of tensor {tensor.name!r}",
                "calibrate again with samples that reach this layer",
            )
        self._given[tensor.name] = amax

    def spread(self, layers: Sequence[Any]) -> None:
        """A shuffle has one range on both its sides."""
        shuffles = [layer for layer in layers if layer.type.name == "SHUFFLE"]
        for layer in [*shuffles, *reversed(shuffles)]:
            ends = (layer.get_input(0), layer.get_output(0))
            known = [end for end in ends if end.name in self._given]
            for end in ends:
                if known and end.name not in self._given:
                    self.give(end, self._given[known[0].name])

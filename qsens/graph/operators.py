"""What ONNX's own schemas say about an operator: which inputs carry its data, and whether FP16 is allowed."""

from functools import lru_cache
from typing import Any

import onnx

FLOAT16 = "tensor(float16)"


def schema_of(node: onnx.NodeProto, opset: int) -> Any:
    """The schema of a node of the default domain in `opset`, `None` where there is none."""
    return _schema(node.op_type, opset) if node.domain in ("", "ai.onnx") else None


@lru_cache(maxsize=1024)
def _schema(operator: str, opset: int) -> Any:
    try:
        return onnx.defs.get_schema(operator, opset, "")
    except onnx.defs.SchemaError:
        return None


def data_inputs(node: onnx.NodeProto, opset: int) -> frozenset[int]:
    """Positions of the inputs that have the type of the node's first output."""
    schema = schema_of(node, opset)
    if schema is None:
        return frozenset()
    kind = schema.outputs[0].type_str
    last = len(schema.inputs) - 1  # a variadic input stands for all that follow
    return frozenset(
        place for place in range(len(node.input)) if schema.inputs[min(place, last)].type_str == kind
    )


def takes_half(node: onnx.NodeProto, opset: int) -> bool:
    """Whether the node may compute in FP16."""
    schema = schema_of(node, opset)
    if schema is None:
        return False
    kind = schema.outputs[0].type_str
    allowed = next(
        (entry.allowed_type_strs for entry in schema.type_constraints if entry.type_param_str == kind), ()
    )
    return FLOAT16 in allowed


def same_signature(node: onnx.NodeProto, opset: int, older: int) -> bool:
    """Whether the operator has the same inputs and attributes in both sets, so that only types differ."""
    new, old = schema_of(node, opset), schema_of(node, older)
    return new is not None and old is not None and _signature(new) == _signature(old)


def _signature(schema: Any) -> tuple[list[tuple[str, str]], list[tuple[str, str, str]]]:
    inputs = [(entry.name, str(entry.option)) for entry in schema.inputs]
    attributes = [
        (name, str(entry.type), str(entry.default_value)) for name, entry in sorted(schema.attributes.items())
    ]
    return inputs, attributes

"""Graph inputs before and after preparation, the shapes a graph is examined at, and inferred types."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import onnx
from onnx import TensorProto, helper

from qsens.core.errors import LoadError, SpecError
from qsens.core.interfaces import InputSpec
from qsens.graph.editable_graph import Draft
from qsens.graph.names import subgraphs, with_shown_names
from qsens.graph.requirements import refuse_unusable

# Initializers above this many elements are hidden from shape inference, which needs only their shapes:
# inference then works on graphs of any size.
_LARGEST_SHAPE_CONSTANT = 1024
# Of one sample of one input; the largest pictures that networks take are a hundredth of it.
LARGEST_INPUT_ELEMENTS = 2**28
Shape = tuple[int, ...]


def input_specs(draft: Draft) -> tuple[InputSpec, ...]:
    """Graph inputs in order.

    The first axis is a batch where its size is free, or is one and more axes follow.

    Raises:
        LoadError: for an input without a shape or with sides below one, or a picture batch above one.
    """
    specs = tuple(_input_spec(value) for value in draft.header.graph.input)
    fixed = next((spec for spec in specs if len(spec.shape) >= 4 and not spec.is_batched), None)
    if fixed is not None and not any(spec.is_batched for spec in specs):
        raise LoadError(
            f"input {fixed.name!r} fixes its batch at {fixed.shape[0]}",
            "export the generator with a dynamic batch axis, or with batch size 1",
        )
    return specs


def _input_spec(value: onnx.ValueInfoProto) -> InputSpec:
    tensor_type = value.type.tensor_type
    if not tensor_type.HasField("shape"):
        raise LoadError(
            f"input {value.name!r} has no shape in the graph",
            "export the generator with example inputs, so that the number of axes is known",
        )
    sides = [side.dim_value if side.HasField("dim_value") else None for side in tensor_type.shape.dim]
    if any(side is not None and side < 1 for side in sides):
        written = "x".join("?" if side is None else str(side) for side in sides)
        raise LoadError(
            f"input {value.name!r} is {written} in the graph",
            "sizes are 1 or more, or left free; export the generator again",
        )
    if tensor_type.elem_type not in TensorProto.DataType.values() or not tensor_type.elem_type:
        raise LoadError(
            f"input {value.name!r} has the unknown type {tensor_type.elem_type}", "the file is damaged"
        )
    dtype = helper.tensor_dtype_to_np_dtype(tensor_type.elem_type).name
    is_batched = bool(sides) and (sides[0] is None or (sides[0] == 1 and len(sides) > 1))
    return InputSpec(value.name, tuple(sides[1:] if is_batched else sides), dtype, is_batched)


def example_shapes(
    specs: Iterable[InputSpec], given: Mapping[str, tuple[int, ...]] | None
) -> dict[str, Shape]:
    """Concrete shape of every input, batch axis included and one.

    Raises:
        SpecError: if a given shape names no input or does not fit it.
        LoadError: if a side is free in the graph and not given, or an input is too large.
    """
    inputs = {spec.name: spec for spec in specs}
    given = _of_inputs(tuple(inputs.values()), given)
    shapes = {name: _example_shape(spec, given.get(name)) for name, spec in inputs.items()}
    for name, shape in shapes.items():
        if math.prod(shape) > LARGEST_INPUT_ELEMENTS:
            raise LoadError(
                f"input {name!r} is {'x'.join(map(str, shape))}: {math.prod(shape):,} values a sample",
                f"at most {LARGEST_INPUT_ELEMENTS:,} can be swept; export it or give it a smaller size",
            )
    return shapes


def _of_inputs(specs: Sequence[InputSpec], given: Mapping[str, Shape] | None) -> Mapping[str, Shape]:
    """The given shapes, all of which name an input."""
    names = [spec.name for spec in specs]
    unknown = next((name for name in given or {} if name not in names), None)
    if unknown is not None:
        raise SpecError(f"no graph input named {unknown!r}", f"the inputs are {', '.join(names)}")
    return given or {}


def _example_shape(spec: InputSpec, given: Shape | None) -> Shape:
    batch: tuple[int, ...] = (1,) if spec.is_batched else ()
    if given is None:
        if None in spec.shape:
            raise LoadError(
                f"input {spec.name!r} has shape {_written(spec)}: its free sides need a size",
                f"say it with --input-shape {spec.name}={_suggestion(spec)}",
            )
        return batch + tuple(side for side in spec.shape if side is not None)
    sides = given[len(batch) :]
    fits = len(given) == len(batch) + len(spec.shape) and all(
        size > 0 and side in (None, size) for side, size in zip(spec.shape, sides, strict=True)
    )
    if not fits:
        raise SpecError(
            f"input {spec.name!r} cannot be {'x'.join(map(str, given))}: the graph says {_written(spec)}",
            f"give something like --input-shape {spec.name}={_suggestion(spec)}",
        )
    return batch + tuple(sides)


def _written(spec: InputSpec) -> str:
    sides = (("batch",) if spec.is_batched else ()) + tuple(side or "?" for side in spec.shape)
    return "x".join(map(str, sides))


def _suggestion(spec: InputSpec) -> str:
    sides = ((1,) if spec.is_batched else ()) + tuple(side or 96 for side in spec.shape)
    return "x".join(map(str, sides))


def infer_types(draft: Draft, shapes: Mapping[str, Shape] | None = None) -> dict[str, onnx.TypeProto]:
    """Types (with shapes where inference succeeds) of every tensor but the hidden constants.

    `shapes` replaces the inputs' own shapes, so that the result is concrete.
    """
    graph = inferred_graph(draft, shapes)
    return {value.name: value.type for value in (*graph.value_info, *graph.input, *graph.output)}


def inferred_graph(draft: Draft, shapes: Mapping[str, Shape] | None = None) -> onnx.GraphProto:
    """The graph with inferred types, also inside the bodies of its nodes; large constants are inputs.

    `shapes`, of inputs and of what loops carry, replace their own.
    """
    skeleton = _skeleton(draft)
    for value in skeleton.graph.input:
        if shapes is not None and value.name in shapes:
            _set_shape(value, shapes[value.name])
    for value in skeleton.graph.output:
        value.type.tensor_type.ClearField("shape")
    for node in skeleton.graph.node:
        if node.op_type == "Loop":
            _set_first_shapes(node, shapes or {})
    try:
        inferred = onnx.shape_inference.infer_shapes(skeleton, check_type=False, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError) as error:  # ValueError: unknown types
        raise LoadError(
            f"the graph's shapes contradict each other: {str(error).strip().splitlines()[0][:300]}",
            "the file is damaged, or --input-shape does not suit the generator",
        ) from error
    return inferred.graph


def _skeleton(draft: Draft) -> onnx.ModelProto:
    """The draft as a model in which large initializers are inputs."""
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(draft.header)
    skeleton.graph.node.extend(draft.nodes)
    for name, tensor in draft.initializers.items():
        if _elements(tensor) <= _LARGEST_SHAPE_CONSTANT:
            skeleton.graph.initializer.append(tensor)
        else:
            skeleton.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
    return skeleton


def _elements(tensor: onnx.TensorProto) -> int:
    count = 1
    for side in tensor.dims:
        count *= side
    return count


def _set_shape(value: onnx.ValueInfoProto, shape: Shape) -> None:
    del value.type.tensor_type.shape.dim[:]
    for side in shape:
        value.type.tensor_type.shape.dim.add().dim_value = side


def _set_first_shapes(loop: onnx.NodeProto, shapes: Mapping[str, Shape]) -> None:
    """Set those of the first round: inference takes none for granted, as a later round may have others."""
    for body in subgraphs(loop):
        # A number of rounds and a condition come first, outside and inside.
        for name, value in zip(loop.input[2:], body.input[2:], strict=False):
            if name in shapes and value.type.tensor_type.elem_type:
                _set_shape(value, shapes[name])


def known_shape(value: onnx.TypeProto | None) -> Shape | None:
    """The shape of a type whose sides are all known, else `None`."""
    if value is None or not value.tensor_type.HasField("shape"):
        return None
    sides = value.tensor_type.shape.dim
    if not all(side.HasField("dim_value") for side in sides):
        return None
    return tuple(side.dim_value for side in sides)


def rank_of(value: onnx.TypeProto) -> int | None:
    """Number of axes, `None` if unknown."""
    return len(value.tensor_type.shape.dim) if value.tensor_type.HasField("shape") else None


def value_infos(types: Mapping[str, onnx.TypeProto], names: Iterable[str]) -> list[onnx.ValueInfoProto]:
    """`value_info` entries of the named tensors whose type is known."""
    known = [
        name for name in names if name in types and types[name].tensor_type.elem_type != TensorProto.UNDEFINED
    ]
    return [onnx.ValueInfoProto(name=name, type=types[name]) for name in known]


def graph_inputs(model: onnx.ModelProto, stated: Mapping[str, Shape] | None = None) -> tuple[InputSpec, ...]:
    """Inputs in graph order, with the shapes (batch axis included) that are stated for them.

    Raises:
        LoadError: for a model that cannot be swept, an input without a shape, or a batch above one.
        SpecError: if a stated shape names no input or does not fit it.
    """
    refuse_unusable(model)
    return with_stated(input_specs(Draft.take_apart(with_shown_names(model))), stated)


def with_stated(specs: Sequence[InputSpec], given: Mapping[str, Shape] | None) -> tuple[InputSpec, ...]:
    """The inputs with the shapes, batch axis included, that are stated for them. Raises `SpecError`."""
    shapes = _of_inputs(specs, given)
    return tuple(
        replace(spec, stated=_example_shape(spec, shapes[spec.name])[spec.is_batched :])
        if spec.name in shapes
        else spec
        for spec in specs
    )


def free_inputs(inputs: Sequence[InputSpec]) -> tuple[str, ...]:
    """Names of inputs with a side that the graph leaves open, the batch axis aside."""
    return tuple(entry.name for entry in inputs if None in entry.shape)

"""From any FP32 ONNX model to a `Graph`: checked, plain, batch normalisation folded, layers enumerated."""

import hashlib
from collections.abc import Mapping, Sequence

import onnx

from qsens.core.errors import LoadError
from qsens.core.interfaces import InputSpec
from qsens.core.layer import Layer
from qsens.graph.editable_graph import Draft, weights_digest
from qsens.graph.functions import inline_functions
from qsens.graph.graph import Graph
from qsens.graph.layers import dynamic_weight_nodes, enumerate_layers, layer_nodes
from qsens.graph.onnx_run import is_batchable, open_session, random_inputs, relative_difference, run
from qsens.graph.requirements import refuse_invalid, refuse_other_types, refuse_unrepeatable, refuse_unusable
from qsens.graph.shapes import (
    example_shapes,
    infer_types,
    input_specs,
    known_shape,
    rank_of,
    value_infos,
)
from qsens.graph.shown_names import with_shown_names
from qsens.graph.simplify import (
    drop_zero_biases,
    fold_batch_norms,
    fold_constants,
    remove_copies,
    settle_gemms,
)

# Folding rounds every weight once more; real generators stay below 1e-6, a wrong fold is of order one.
LARGEST_DIFFERENCE = 1e-4
Shape = tuple[int, ...]


def prepare_graph(model: onnx.ModelProto, *, input_shapes: Mapping[str, Shape] | None = None) -> Graph:
    """Prepare a generator for a sweep.

    `input_shapes` gives full shapes (batch axis included where the input has one; it is taken as one) for
    inputs with free sides. The result is run against `model` on seeded inputs before it is returned.

    Raises:
        LoadError: if the model cannot be swept, has free sides without a given size, or computes something
            else after folding.
        SpecError: if `input_shapes` names no input or does not fit it.
    """
    model = inline_functions(model)
    refuse_unusable(model)
    model = with_shown_names(model)
    draft = Draft.take_apart(model)
    specs = input_specs(draft)
    shapes = example_shapes(specs, input_shapes)
    _simplify(draft)
    fold_batch_norms(draft)
    draft.drop_unused()
    refuse_unrepeatable(draft)
    refuse_other_types(draft)
    concrete = _concrete_shapes(draft, specs, shapes)
    layers = enumerate_layers(draft, concrete)
    prepared = _finished(draft)
    can_batch = _check(model, prepared, specs, shapes)
    return Graph(
        model=prepared,
        layers=layers,
        inputs=specs,
        outputs=tuple(draft.output_names),
        example_shapes=tuple(shapes.items()),
        can_batch=can_batch,
        digest=_digest(draft, layers),
        dynamic_weight_nodes=dynamic_weight_nodes(draft),
    )


def _simplify(draft: Draft) -> None:
    draft.sort_nodes()
    draft.name_nodes()
    refuse_invalid(draft)
    remove_copies(draft)
    types = infer_types(draft)
    fold_constants(draft, types)
    drop_zero_biases(draft)
    ranks = {name: rank for name, value in types.items() if (rank := rank_of(value)) is not None}
    settle_gemms(draft, ranks)
    draft.drop_unused()


def _concrete_shapes(
    draft: Draft, specs: Sequence[InputSpec], shapes: Mapping[str, Shape]
) -> dict[str, Shape]:
    """Shapes of all tensors for one sample; where inference gives up on a layer, the graph is run."""
    types = infer_types(draft, shapes)
    found = {name: shape for name, value in types.items() if (shape := known_shape(value)) is not None}
    wanted = {name for node in layer_nodes(draft) for name in (node.input[0], node.output[0])}
    missing = sorted(wanted - found.keys())
    if missing:
        found.update(_observed_shapes(draft, specs, shapes, missing))
    return found


def _observed_shapes(
    draft: Draft, specs: Sequence[InputSpec], shapes: Mapping[str, Shape], tensors: Sequence[str]
) -> dict[str, Shape]:
    model = draft.assemble()
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    values = run(open_session(model), random_inputs(specs, shapes, batch=1, seed=0))
    return {name: tuple(value.shape) for name, value in zip(tensors, values, strict=True)}


def _finished(draft: Draft) -> onnx.ModelProto:
    """The model with inferred value types and without exporter notes, which name paths and stack traces."""
    for node in draft.nodes:
        del node.metadata_props[:]
        node.ClearField("doc_string")
    model = draft.assemble()
    types = infer_types(draft)
    names = [name for node in draft.nodes for name in node.output if name and name not in draft.output_names]
    model.graph.value_info.extend(value_infos(types, names))
    return model


def _check(
    original: onnx.ModelProto,
    prepared: onnx.ModelProto,
    specs: Sequence[InputSpec],
    shapes: Mapping[str, Shape],
) -> bool:
    """Compare both models on seeded inputs; return whether the prepared one can batch."""
    inputs = random_inputs(specs, shapes, batch=1, seed=0)
    expected = run(open_session(original), inputs)
    session = open_session(prepared)
    actual = run(session, inputs)
    for output, before, after in zip(prepared.graph.output, expected, actual, strict=True):
        difference = relative_difference(before, after)
        if not difference <= LARGEST_DIFFERENCE:
            raise LoadError(
                f"after folding, output {output.name!r} differs from the original by {difference:.1e} "
                f"(limit {LARGEST_DIFFERENCE:.0e})",
                "the network amplifies rounding or this is a bug in qsens; please report it with the file",
            )
    return _has_free_batch(original, specs) and is_batchable(session, specs, shapes)


def _has_free_batch(model: onnx.ModelProto, specs: Sequence[InputSpec]) -> bool:
    batched = {spec.name for spec in specs if spec.is_batched}
    first_sides = [
        value.type.tensor_type.shape.dim[0] for value in model.graph.input if value.name in batched
    ]
    return all(not side.HasField("dim_value") for side in first_sides)


def _digest(draft: Draft, layers: Sequence[Layer]) -> str:
    """sha256 of the nodes, the weights and the layer names."""
    digest = hashlib.sha256()
    for node in draft.nodes:
        digest.update(node.SerializeToString(deterministic=True))
    for value in (*draft.header.graph.input, *draft.header.graph.output):
        digest.update(value.SerializeToString(deterministic=True))
    digest.update(weights_digest(draft.initializers.values()).encode())
    digest.update("\n".join(layer.name for layer in layers).encode())
    return digest.hexdigest()

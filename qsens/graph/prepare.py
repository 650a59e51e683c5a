"""From any FP32 ONNX model to a `Graph`: checked, plain, batch normalisation folded, layers enumerated."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
import onnxruntime

from qsens.core.errors import LoadError
from qsens.core.interfaces import InputSpec
from qsens.core.layer import Layer
from qsens.core.other_work import OtherWork
from qsens.graph.editable_graph import Draft, weights_digest
from qsens.graph.examples import Examples, Feed, made_up_examples, real_examples, shapes_of, why_not_batched
from qsens.graph.functions import inline_functions
from qsens.graph.graph import Graph
from qsens.graph.layers import dynamic_weight_nodes, enumerate_layers, layer_nodes
from qsens.graph.names import with_shown_names
from qsens.graph.onnx_run import Values, open_session, relative_difference
from qsens.graph.other_work import has_bodies, other_work, tensors_of_work
from qsens.graph.requirements import refuse_invalid, refuse_other_types, refuse_unrepeatable, refuse_unusable
from qsens.graph.shapes import (
    example_shapes,
    infer_types,
    inferred_graph,
    input_specs,
    known_shape,
    rank_of,
    value_infos,
    with_stated,
)
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


def prepare_graph(
    model: onnx.ModelProto,
    *,
    input_shapes: Mapping[str, Shape] | None = None,
    samples: Sequence[Feed] = (),
) -> Graph:
    """Prepare a generator for a sweep.

    `input_shapes` gives full shapes (batch axis included where the input has one; it is taken as one) for
    inputs with free sides. `samples` are real ones, without batch axes: the first decides all shapes and
    work; without them, seeded inputs are made up. The result is run against `model` on them before it is
    returned.

    Raises:
        LoadError: if the model cannot be swept, has free sides without a given size, or computes something
            else after folding.
        SpecError: if `input_shapes` names no input or does not fit it.
    """
    model = inline_functions(model)
    refuse_unusable(model)
    model = with_shown_names(model)
    draft = Draft.take_apart(model)
    examples = _examples(with_stated(input_specs(draft), input_shapes), input_shapes, samples)
    _simplify(draft)
    fold_batch_norms(draft)
    draft.drop_unused()
    refuse_unrepeatable(draft)
    refuse_other_types(draft)
    observed = ObservedShapes.of(draft, examples)
    layers = enumerate_layers(draft, observed.shapes)
    prepared = _finished(draft)
    outputs = _checked_outputs(model, prepared, examples)
    why_single = _fixed_batch(model, examples.specs) or why_not_batched(open_session(prepared), examples)
    return Graph(
        model=prepared,
        layers=layers,
        inputs=examples.specs,
        outputs=tuple(draft.output_names),
        example_shapes=tuple(shapes_of(examples.first).items()),
        can_batch=why_single is None,
        digest=_digest(draft, layers),
        dynamic_weight_nodes=dynamic_weight_nodes(draft),
        other_work=_other_work(draft, observed, examples),
        why_single=why_single,
        example=examples.first,
        example_outputs=outputs,
        observed=tuple(layer.name for layer in layers if layer.node in observed.by_run),
        notes=_notes(layers, observed, examples),
    )


def _examples(
    specs: tuple[InputSpec, ...], stated: Mapping[str, Shape] | None, samples: Sequence[Feed]
) -> Examples:
    if not samples:
        return made_up_examples(specs, example_shapes(specs, stated))
    examples = real_examples(specs, samples)
    example_shapes(specs, shapes_of(examples.first))
    return examples


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


@dataclass(frozen=True)
class ObservedShapes:
    """Shapes of all tensors for one sample.

    `by_run` are nodes of layers whose shapes inference cannot know: they may follow values, and are those of
    a run. `varying` are those that have another shape in another sample.
    """

    shapes: Mapping[str, Shape]
    by_run: frozenset[str]
    varying: frozenset[str]

    @classmethod
    def of(cls, draft: Draft, examples: Examples) -> "ObservedShapes":
        """The first example's shapes, compared with those of the other real ones."""
        ends = {node.name: {node.input[0], node.output[0]} for node in layer_nodes(draft)}
        first = _inferred_shapes(draft, shapes_of(examples.first))
        wanted = set().union(*ends.values(), *tensors_of_work(draft).values())
        missing = sorted(wanted - first.keys())
        session = _session_of(draft, missing) if missing else None
        found: list[dict[str, Shape]] = []
        for feed in examples.feeds if examples.are_real else examples.feeds[:1]:
            is_alike = shapes_of(feed) == shapes_of(examples.first)
            shapes = first if is_alike else _inferred_shapes(draft, shapes_of(feed))
            if session is not None:
                values = examples.run(session, feed)
                shapes = shapes | {name: value.shape for name, value in zip(missing, values, strict=True)}
            found.append(shapes)
        return cls(
            found[0],
            frozenset(node for node, names in ends.items() if names & set(missing)),
            frozenset(
                node
                for node, names in ends.items()
                if any(shapes.get(name) != found[0][name] for shapes in found for name in names)
            ),
        )


def _other_work(draft: Draft, observed: ObservedShapes, examples: Examples) -> tuple[OtherWork, ...]:
    shapes = {**observed.shapes, **shapes_of(examples.first)}
    inferred = inferred_graph(draft, shapes) if has_bodies(draft) else None
    return other_work(draft, observed.shapes, inferred)


def _inferred_shapes(draft: Draft, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    types = infer_types(draft, shapes)
    return {name: shape for name, value in types.items() if (shape := known_shape(value)) is not None}


def _session_of(draft: Draft, tensors: Sequence[str]) -> onnxruntime.InferenceSession:
    model = draft.assemble()
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    return open_session(model)


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


def _checked_outputs(
    original: onnx.ModelProto, prepared: onnx.ModelProto, examples: Examples
) -> dict[str, Values]:
    """The prepared model's outputs for the first example, which are those of the original."""
    before, after = _outputs(original, examples), _outputs(prepared, examples)
    for name, actual in after.items():
        difference = relative_difference(before[name], actual)
        if not difference <= LARGEST_DIFFERENCE:
            raise LoadError(
                f"after folding, output {name!r} differs from the original by {difference:.1e} "
                f"(limit {LARGEST_DIFFERENCE:.0e})",
                "the network amplifies rounding or this is a bug in qsens; please report it with the file",
            )
    return after


def _outputs(model: onnx.ModelProto, examples: Examples) -> dict[str, Values]:
    values = examples.run(open_session(model), examples.first)
    return dict(zip((output.name for output in model.graph.output), values, strict=True))


def _fixed_batch(model: onnx.ModelProto, specs: Sequence[InputSpec]) -> str | None:
    """Words for an input whose batch is one in the graph, else `None`."""
    batched = {spec.name for spec in specs if spec.is_batched}
    for value in model.graph.input:
        if value.name in batched and value.type.tensor_type.shape.dim[0].HasField("dim_value"):
            return f"the graph fixes the batch of input {value.name!r} at 1"
    return None


def _notes(layers: Sequence[Layer], observed: ObservedShapes, examples: Examples) -> tuple[str, ...]:
    """Sentences on what the layers' shapes and work rest on, where that is not the graph alone."""
    notes = []
    if observed.by_run and not examples.are_real:
        notes.append(
            f"the sizes in {_named(layers, observed.by_run)} are those of a run on made-up inputs, and may "
            "follow their values: count them on samples with --calibration SET (and --spec FILE)"
        )
    if observed.varying:
        notes.append(
            f"the sizes in {_named(layers, observed.varying)} differ from sample to sample: shapes and MACs "
            "are those of the first"
        )
    return tuple(notes)


def _named(layers: Sequence[Layer], nodes: frozenset[str]) -> str:
    names = [repr(layer.name) for layer in layers if layer.node in nodes]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more layers" if len(names) > 3 else "")


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

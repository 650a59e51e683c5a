"""Requirements on an ONNX graph before it can be swept: operator set, no quantization, plain FP32."""

import onnx
from onnx import TensorProto

from qsens.core.errors import LoadError
from qsens.graph.editable_graph import Draft, all_nodes, is_onnx_domain
from qsens.graph.names import subgraphs

OLDEST_OPSET = 13
_QUANTIZED = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}
)
_QUANTIZED_PREFIXES = (
    "QLinear",
    "DynamicQuantize",
    "QGemm",
    "QAttention",
    "QMoE",
    "QOrdered",
    "MatMulInteger",
)
_QUANTIZED_SUFFIXES = ("NBits", "Bnb4")
_RUNTIME_FUSED = frozenset({"FusedConv", "FusedGemm", "FusedMatMul", "FusedMatMulActivation", "NhwcConv"})
_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
)
_HALF_TYPES = {
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "float64",
}
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# Operators that the passes know by name: those of other domains do not have the same inputs.
_KNOWN = _WEIGHTED | {"BatchNormalization", "CastLike", "Constant", "Dropout", "Identity", "Shape"}
_WITH_SUBGRAPHS = frozenset({"If", "Loop", "Scan", "SequenceMap"})


def refuse_unusable(model: onnx.ModelProto) -> None:
    """Check what can be seen before any pass runs.

    Raises:
        LoadError: for an empty graph, an operator set before 13, a graph that is already quantized, or one
            that ONNX Runtime has already optimised.
    """
    if not model.graph.node:
        raise LoadError("the ONNX file holds no nodes", "it is empty or was cut short; export it again")
    _refuse_garbled(model.graph)
    opset = next((entry.version for entry in model.opset_import if is_onnx_domain(entry.domain)), 0)
    if opset < OLDEST_OPSET:
        raise LoadError(
            f"the graph uses ONNX operator set {opset}; the oldest that can be swept is {OLDEST_OPSET}",
            "export it again with opset_version=17, or convert it with "
            "onnx.version_converter.convert_version(model, 17)",
        )
    _refuse_other_versions(model)
    if model.graph.sparse_initializer:
        raise LoadError(
            f"the graph holds the weights {model.graph.sparse_initializer[0].values.name!r} in sparse form",
            "export it with dense weights",
        )
    _refuse_quantized(model)
    fused = [node for node in model.graph.node if node.op_type in _RUNTIME_FUSED]
    if fused:
        raise LoadError(
            f"node {fused[0].name!r} is a {fused[0].op_type}: ONNX Runtime has already optimised this graph",
            "give the file from before the optimisation",
        )


def _refuse_garbled(graph: onnx.GraphProto) -> None:
    """Protobuf hands out names that are not UTF-8 as bytes."""
    texts = [value.name for value in (*graph.input, *graph.output, *graph.initializer)]
    for node in graph.node:
        texts.extend((node.name, node.op_type, node.domain, *node.input, *node.output))
    garbled = next((text for text in texts if not isinstance(text, str)), None)
    if garbled is not None:
        raise LoadError(
            f"the graph holds the unreadable name {garbled!r}", "the file is damaged; fetch it again"
        )
    for node in graph.node:
        if any(attribute.ref_attr_name for attribute in node.attribute):
            raise LoadError(
                f"node {node.name or node.op_type!r} takes an attribute from a function, but is in none",
                "the file is damaged; export it again",
            )
        for inner in subgraphs(node):
            _refuse_garbled(inner)


def _refuse_other_versions(model: onnx.ModelProto) -> None:
    """Versions are small numbers; onnx's own checker takes no others."""
    versions = {"operator set": [entry.version for entry in model.opset_import]}
    for what, numbers in {**versions, "format version": [model.ir_version]}.items():
        wrong = next((number for number in numbers if not 0 <= number < 2**31), None)
        if wrong is not None:
            raise LoadError(f"the graph states {what} {wrong}", "the file is damaged; fetch it again")


def _refuse_quantized(model: onnx.ModelProto) -> None:
    found: dict[str, int] = {}
    for node in model.graph.node:
        if _is_quantized(node.op_type):
            found[node.op_type] = found.get(node.op_type, 0) + 1
    if not found:
        return
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
    raise LoadError(
        f"the graph is already quantized: it holds {listed}",
        "a sweep chooses precisions itself and needs the FP32 graph from before quantization",
    )


def _is_quantized(op_type: str) -> bool:
    return (
        op_type in _QUANTIZED
        or op_type.startswith(_QUANTIZED_PREFIXES)
        or op_type.endswith(_QUANTIZED_SUFFIXES)
    )


def refuse_invalid(draft: Draft) -> None:
    """Run ONNX's own checker on every plain node.

    Raises:
        LoadError: with the checker's words, or naming a node of an operator set that is not known.
    """
    context = onnx.checker.C.CheckerContext()
    context.ir_version = draft.header.ir_version
    context.opset_imports = {
        "" if is_onnx_domain(entry.domain) else entry.domain: entry.version
        for entry in draft.header.opset_import
    }
    for node in draft.nodes:
        if node.op_type in _KNOWN and not is_onnx_domain(node.domain):
            raise LoadError(
                f"node {node.name!r} is a {node.op_type} of the operator set {node.domain!r}, not of ONNX",
                "export the generator with ONNX's own operators",
            )
        # Branches of a control-flow node may leave out shapes that the checker asks for and nothing needs.
        if node.op_type in _WITH_SUBGRAPHS and any(subgraphs(node)):
            continue
        try:
            onnx.checker.check_node(node, context)
        except (onnx.checker.ValidationError, UnicodeDecodeError) as error:
            raise LoadError(
                f"node {node.name!r} is not valid ONNX: {str(error).strip().splitlines()[0]}",
                "the file is damaged or its exporter has a bug; export it again",
            ) from error


def refuse_unrepeatable(draft: Draft) -> None:
    """Check that no node, in bodies neither, draws random numbers.

    Raises:
        LoadError: naming the node.
    """
    for node in all_nodes(draft.nodes):
        if node.op_type in _RANDOM:
            raise LoadError(
                f"node {node.name!r} draws random numbers ({node.op_type}), so no two runs can be compared",
                "make the noise an input of the generator; qsens feeds it seeded",
            )
        mode = node.input[2] if node.op_type == "Dropout" and len(node.input) > 2 else ""
        if mode in draft.initializers and draft.values(mode).any():
            raise LoadError(
                f"node {node.name!r} drops values at random (a Dropout in training): no two runs are alike",
                "export the generator after module.eval()",
            )


def refuse_other_types(draft: Draft) -> None:
    """Check that weights are FP32 and finite.

    Raises:
        LoadError: naming the node and its type.
    """
    for node in draft.nodes:
        if node.op_type not in _WEIGHTED:
            continue
        for name in node.input[1:2]:
            tensor = draft.initializers.get(name)
            if tensor is not None and tensor.data_type in _HALF_TYPES:
                raise LoadError(
                    f"the weights of node {node.name!r} are {_HALF_TYPES[tensor.data_type]}, not float32",
                    "export the generator in float32; qsens rounds to FP16 itself, layer by layer",
                )

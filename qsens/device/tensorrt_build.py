"""Builds a TensorRT plan from an ONNX graph: parse, set the precisions, optimise, serialise."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from qsens.device.errors import DeviceError
from qsens.device.leftovers import process_mark, remove_leftovers
from qsens.device.tensorrt_inspector import nodes_in_layer_name, nodes_in_metadata
from qsens.device.tensorrt_module import Features, collecting_logger, features_of

WORKSPACE_MIB = 2048
BATCHES = (1, 8, 16)
# Steps that keep their own types whatever precision their node is pinned to.
_UNPINNED = frozenset({"CONSTANT", "SHAPE", "QUANTIZE", "DEQUANTIZE", "CAST"})
_FLOATS = frozenset({"FLOAT", "HALF"})


@dataclass(frozen=True)
class PlanOptions:
    """Settings for building a plan.

    `flavour` is `strong` (every type is in the graph) or `weak` (INT8 by the graph's Q/DQ, the rest by
    `float_pins`: ONNX node and `fp16` or `fp32`). `batches` are the smallest, the usual and the largest batch
    of a graph whose batch is free; `input_shapes` give inputs with other free sides a shape (batch axis
    included). `optimisation_level` is 0 to 5, `None` leaves TensorRT's own. `timing_cache` is a file that
    all builds on this device share, `None` for none. `allows_tf32` lets FP32 layers round their operands to
    TF32. `must_obey`: a pin that cannot be kept fails the build, else it is a wish.
    """

    flavour: str
    workspace_mib: int = WORKSPACE_MIB
    optimisation_level: int | None = None
    timing_cache: Path | None = None
    batches: tuple[int, int, int] = BATCHES
    input_shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    float_pins: Sequence[tuple[str, str]] = ()
    allows_tf32: bool = False
    must_obey: bool = True


@dataclass(frozen=True)
class ParsedLayer:
    """One layer of the network before the build: what the parser made of the graph.

    `kind` is TensorRT's layer type; `inputs` and `outputs` are pairs of tensor name and data type
    (`INT8`, `HALF`, `FLOAT`, ...).
    """

    name: str
    kind: str
    nodes: tuple[str, ...]
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class BuiltPlan:
    """A serialised engine and what was seen on the way.

    `layers` are those of the network as parsed; `log` holds the compiler's verbose lines about the layers
    of the engine, where they were asked for; `warnings` its warnings.
    """

    plan: bytes
    layers: tuple[ParsedLayer, ...]
    log: tuple[str, ...]
    warnings: tuple[str, ...]


def compile_plan(
    trt: Any,
    model: bytes,
    options: PlanOptions,
    *,
    node_names: Sequence[str] = (),
    keeps_log: bool = False,
) -> BuiltPlan:
    """Build the plan of a serialised ONNX model with the TensorRT module `trt`.

    `node_names` are the model's nodes in order; old parsers tell only the number of a node they refuse.

    Raises:
        DeviceError: with TensorRT's own words, if there is no GPU where one is needed, a node cannot be
            parsed, an option is unknown to this TensorRT, or no engine can be built.
    """
    features = features_of(trt)
    _check_flavour(trt, features, options)
    logger = collecting_logger(trt, verbose=keeps_log)
    builder = open_or_explain(lambda: trt.Builder(logger), logger, "a builder")
    network = builder.create_network(_network_flags(trt, options.flavour))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        raise DeviceError(
            f"TensorRT cannot parse the graph: {_parser_errors(parser, node_names) or logger.errors()}",
            "the node needs another form, or this TensorRT is too old for it",
        )
    layers = parsed_layers(network, features)
    config = builder.create_builder_config()
    _configure(trt, config, features, options)
    config.add_optimization_profile(_profile(builder, network, options))
    if options.flavour == "weak":
        _pin(trt, network, config, layers, options)
    cache = _attach_timing_cache(config, options.timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise DeviceError(f"TensorRT built no engine: {logger.errors()}", _build_hint(features, options))
    if cache:
        _save_timing_cache(config, cache)
    return BuiltPlan(bytes(plan), layers, tuple(logger.verbose), tuple(logger.lines("WARNING")))


def open_or_explain(make: Callable[[], Any], logger: Any, what: str) -> Any:
    """The object from `make`; without a GPU, TensorRT's bare TypeError or nothing becomes a `DeviceError`."""
    try:
        made = make()
    except TypeError:
        made = None
    if made is None:
        raise DeviceError(
            f"TensorRT cannot make {what}: {logger.errors()}",
            "it needs an NVIDIA GPU with a driver that fits: nvidia-smi must list it (qsens doctor)",
        )
    return made


def parsed_layers(network: Any, features: Features) -> tuple[ParsedLayer, ...]:
    """The layers of a network with the types of their inputs and outputs."""
    return tuple(_parsed(network.get_layer(place), features) for place in range(network.num_layers))


def _parsed(layer: Any, features: Features) -> ParsedLayer:
    listed = nodes_in_metadata(layer.metadata) if features.has_layer_metadata else ()
    inputs = (layer.get_input(place) for place in range(layer.num_inputs))
    outputs = (layer.get_output(place) for place in range(layer.num_outputs))
    return ParsedLayer(
        name=layer.name,
        kind=layer.type.name,
        nodes=listed or nodes_in_layer_name(layer.name),
        inputs=tuple((tensor.name, tensor.dtype.name) for tensor in inputs if tensor is not None),
        outputs=tuple((tensor.name, tensor.dtype.name) for tensor in outputs if tensor is not None),
    )


def _check_flavour(trt: Any, features: Features, options: PlanOptions) -> None:
    fits = {"strong": features.has_strong_typing, "weak": features.has_weak_typing}
    if options.flavour not in fits:
        raise DeviceError(f"TensorRT cannot build flavour {options.flavour!r}", "use strong or weak")
    if not fits[options.flavour]:
        other = next(name for name, fit in fits.items() if fit or name != options.flavour)
        raise DeviceError(
            f"TensorRT {trt.__version__} has no {options.flavour}ly typed networks",
            f"use flavour {other!r}: --option backend.flavour={other}",
        )
    if options.optimisation_level is not None and not features.has_optimisation_levels:
        raise DeviceError(
            f"TensorRT {trt.__version__} has no optimisation levels",
            "leave optimisation_level out",
        )


def _network_flags(trt: Any, flavour: str) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    if flavour == "strong":
        return 1 << int(flags.STRONGLY_TYPED)
    return 1 << int(flags.EXPLICIT_BATCH) if hasattr(flags, "EXPLICIT_BATCH") else 0


def _parser_errors(parser: Any, node_names: Sequence[str]) -> str:
    found = [_parser_error(parser.get_error(place), node_names) for place in range(parser.num_errors)]
    return "; ".join(dict.fromkeys(found))


def _parser_error(error: Any, node_names: Sequence[str]) -> str:
    number = error.node()
    name = error.node_name() if hasattr(error, "node_name") else ""
    if not name and 0 <= number < len(node_names):
        name = node_names[number]
    kind = f" ({error.node_operator()})" if hasattr(error, "node_operator") else ""
    return f"node {name or number}{kind}: {error.desc()}"


def _configure(trt: Any, config: Any, features: Features, options: PlanOptions) -> None:
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    # Without details the inspector tells names only, and nothing can be audited.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not options.allows_tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.optimisation_level is not None and features.has_optimisation_levels:
        config.builder_optimization_level = options.optimisation_level


def _profile(builder: Any, network: Any, options: PlanOptions) -> Any:
    profile = builder.create_optimization_profile()
    for place in range(network.num_inputs):
        tensor = network.get_input(place)
        shape = tuple(tensor.shape)
        if -1 in shape:
            profile.set_shape(tensor.name, *_three_shapes(tensor.name, shape, options))
    return profile


def _three_shapes(name: str, shape: tuple[int, ...], options: PlanOptions) -> list[tuple[int, ...]]:
    known = tuple(options.input_shapes.get(name, shape))
    sides = tuple(given if side == -1 else side for side, given in zip(shape[1:], known[1:]))
    if -1 in sides or len(known) != len(shape):
        raise DeviceError(
            f"input {name!r} has free sides besides its batch: {list(shape)}",
            "give its shape with --input-shape",
        )
    if shape[0] != -1:
        return [(shape[0], *sides)] * 3
    return [(batch, *sides) for batch in options.batches]


def _pin(trt: Any, network: Any, config: Any, layers: Sequence[ParsedLayer], options: PlanOptions) -> None:
    """Allow what the map uses, and fix the precision of every node that must not be INT8."""
    pins = dict(options.float_pins)
    if any(layer.kind == "QUANTIZE" for layer in layers):
        config.set_flag(trt.BuilderFlag.INT8)
    if "fp16" in pins.values():
        config.set_flag(trt.BuilderFlag.FP16)
    flag = "OBEY_PRECISION_CONSTRAINTS" if options.must_obey else "PREFER_PRECISION_CONSTRAINTS"
    config.set_flag(getattr(trt.BuilderFlag, flag))
    types = {"fp16": trt.DataType.HALF, "fp32": trt.DataType.FLOAT}
    for place, layer in enumerate(layers):
        wanted = next((pins[node] for node in layer.nodes if node in pins), None)
        if wanted is None or layer.kind in _UNPINNED:
            continue
        floats = [index for index, (_, kind) in enumerate(layer.outputs) if kind in _FLOATS]
        if floats:
            _pin_layer(network.get_layer(place), floats, types[wanted])


def _pin_layer(layer: Any, outputs: Sequence[int], kind: Any) -> None:
    """The outputs of the network stay float32, whatever computes them."""
    layer.precision = kind
    for place in outputs:
        if not layer.get_output(place).is_network_output:
            layer.set_output_type(place, kind)


def _attach_timing_cache(config: Any, path: Path | None) -> Path | None:
    """Give the builder the shared cache; one of another device or version is begun anew."""
    if path is None:
        return None
    known = path.read_bytes() if path.is_file() else b""
    if not config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    return path


def _save_timing_cache(config: Any, path: Path) -> None:
    """Write beside and rename: another process may be reading, and the last to finish knows most."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    partial = path.with_name(f".{path.name}.{process_mark()}.partial")
    partial.write_bytes(bytes(config.get_timing_cache().serialize()))
    partial.replace(path)


def _build_hint(features: Features, options: PlanOptions) -> str:
    if options.flavour == "weak" and options.must_obey:
        return "a layer may have no kernel of the precision it is pinned to: try must_obey=false"
    if options.flavour == "strong" and features.has_weak_typing:
        return "strong typing was young before TensorRT 10.12: try --option backend.flavour=weak"
    return "a larger workspace_mib helps where TensorRT found no implementation for a layer"

"""The command lines of `trtexec` that build the same engine as the backend `tensorrt`."""

import shlex
from collections.abc import Iterable, Mapping, Sequence

from qsens.core.errors import BuildError
from qsens.core.precision import Precision
from qsens.engines.lowering.lowered_graph import Flavour, LoweredGraph

# trtexec separates layers by commas and takes * for any text; it has no way to write these in a name.
UNWRITABLE = frozenset(",*")
_INSPECTED = ("--profilingVerbosity=detailed", "--exportLayerInfo=layers.json")
_STRONG_NOTE = (
    "# Every type is in the graph. TensorRT 10.12 and later 10.x:",
    "# TensorRT 11 (always strongly typed; it refuses precision flags):",
)
_WEAK_NOTE = "# TensorRT 8.5 to 10.x: INT8 where the graph has Q/DQ, the other layers as they are named here."
_IMPLICIT_NOTE = (
    "# TensorRT 8.5 to 10.x without Q/DQ: scales from the calibration cache. A fusion may still change a\n"
    "# layer's precision: look at layers.json."
)


def trtexec_lines(
    lowered: LoweredGraph,
    *,
    model: str = "model.onnx",
    plain_model: str | None = None,
    calibration: str = "calibration.cache",
    batches: tuple[int, int, int] = (1, 8, 16),
) -> str:
    """Shell lines with comments: one command for each way to build the lowered graph.

    `model` is the file of the lowered graph. `plain_model` is the generator's FP32 graph without Q/DQ: with
    it, a command for implicit quantization with the cache file `calibration` follows. `batches` are the
    smallest, the usual and the largest batch of a graph whose batch is free.

    Raises:
        BuildError: for a flavour that TensorRT does not take.
    """
    shapes = _shape_flags(lowered, batches)
    if lowered.flavour == Flavour.STRONG:
        extras: tuple[list[str], list[str]] = (["--stronglyTyped"], [])
        commands = [
            f"{note}\n{_command(model, [*extra, *shapes])}"
            for note, extra in zip(_STRONG_NOTE, extras, strict=True)
        ]
    elif lowered.flavour == Flavour.WEAK:
        commands = [f"{_WEAK_NOTE}\n{_command(model, [*_weak_flags(lowered), *shapes])}"]
        if plain_model is not None:
            flags = [*_implicit_flags(lowered), f"--calib={calibration}", *shapes]
            commands.append(f"{_IMPLICIT_NOTE}\n{_command(plain_model, flags)}")
        commands += _left_out(lowered.float_pins)
    else:
        raise BuildError(f"trtexec cannot build flavour '{lowered.flavour}'", "lower as strong or weak")
    return "\n\n".join(commands) + "\n"


def _command(model: str, flags: Iterable[str]) -> str:
    plan = model.rsplit(".", 1)[0] + ".plan"
    arguments = [f"--onnx={model}", f"--saveEngine={plan}", *flags, *_INSPECTED]
    return " \\\n  ".join(["trtexec", *(shlex.quote(argument) for argument in arguments)])


def _weak_flags(lowered: LoweredGraph) -> list[str]:
    return _precision_flags(lowered, dict(lowered.float_pins))


def _implicit_flags(lowered: LoweredGraph) -> list[str]:
    """Every layer by name, and every other node that must not be INT8."""
    layers = {layer.node: str(lowered.requested[layer.name]) for layer in lowered.graph.layers}
    return _precision_flags(lowered, {**dict(lowered.float_pins), **layers})


def _precision_flags(lowered: LoweredGraph, precisions: Mapping[str, str]) -> list[str]:
    written = {name: kind for name, kind in precisions.items() if not UNWRITABLE & set(name)}
    flags = []
    asked = {lowered.requested[layer.name] for layer in lowered.graph.layers}
    if Precision.INT8 in asked:
        flags.append("--int8")
    if Precision.FP16 in asked:
        flags.append("--fp16")
    if written:
        flags.append("--precisionConstraints=obey")
        flags.append(f"--layerPrecisions={_listed(written.items())}")
        floats = [(name, kind) for name, kind in written.items() if kind != Precision.INT8]
        flags += [f"--layerOutputTypes={_listed(floats)}"] if floats else []
    return flags


def _left_out(pins: Sequence[tuple[str, str]]) -> list[str]:
    names = [name for name, _ in pins if UNWRITABLE & set(name)]
    if not names:
        return []
    listed = "\n".join(f"#   {name}" for name in names)
    return [f"# trtexec cannot write these names; the backend tensorrt pins them all the same:\n{listed}"]


def _listed(pairs: Iterable[tuple[str, str]]) -> str:
    return ",".join(f"{name}:{kind}" for name, kind in pairs)


def _shape_flags(lowered: LoweredGraph, batches: tuple[int, int, int]) -> list[str]:
    """Shapes of the inputs with free sides; trtexec refuses them for inputs that have none."""
    examples = dict(lowered.graph.example_shapes)
    free = []
    for value in lowered.detached.skeleton.graph.input:
        sides = value.type.tensor_type.shape.dim
        if any(not side.HasField("dim_value") for side in sides):
            free.append((value.name, examples[value.name], not sides[0].HasField("dim_value")))
    if not free:
        return []
    return [
        f"--{word}Shapes="
        + ",".join(_shape(name, shape, batch if has_batch else None) for name, shape, has_batch in free)
        for word, batch in zip(("min", "opt", "max"), batches, strict=True)
    ]


def _shape(name: str, shape: tuple[int, ...], batch: int | None) -> str:
    sides = shape if batch is None else (batch, *shape[1:])
    return f"{name}:{'x'.join(str(side) for side in sides)}"

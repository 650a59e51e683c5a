"""Exporting torch modules to ONNX quietly, with dynamic batch where the module allows it."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qsens.core.errors import LoadError
from qsens.generators.refusals import first_sentence

if TYPE_CHECKING:
    import onnx
    import torch

# The newest operator set that TensorRT 8.6 and every later engine read.
OPSET = 18
# Types of an input that is no picture, and what torch's own messages say where one is asked for.
_WHOLE_TYPES = (("int64", r"\b(long|int)"), ("bool", r"\bbool"))
_MOST_WHOLE_INPUTS = 3


def export_module(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> onnx.ModelProto:
    """The ONNX graph of a module in eval mode, unoptimised so that nodes keep their module's scope.

    `inputs` are example inputs by parameter of `forward`. The batch axis (the first, where its size is that
    of the first input) becomes dynamic; a module that fixes it is exported with batch size one.

    Raises:
        LoadError: if the module cannot run on the inputs or cannot be exported.
    """
    inputs, given = inputs_and_outputs(module, inputs)
    outputs = _output_names(given, inputs)
    batched = _batched(inputs)
    try:
        return _export(module, _with_batch(inputs, batched, 2), outputs, batched)
    except _export_errors():
        pass
    try:
        return _export(module, _with_batch(inputs, batched, 1), outputs, frozenset())
    except _export_errors() as error:
        cause = error.__cause__ or error
        raise LoadError(
            f"torch cannot export the module to ONNX: {first_sentence(cause)}",
            "avoid control flow that depends on tensor values, or export the ONNX file yourself",
        ) from error


def _export_errors() -> tuple[type[BaseException], ...]:
    import torch  # heavy, and an optional extra

    return (torch.onnx.errors.OnnxExporterError, torch.onnx.OnnxExporterError, RuntimeError)


def inputs_and_outputs(
    module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]
) -> tuple[Mapping[str, torch.Tensor], Any]:
    """Inputs that the module runs on, and what it gives: those given, or with some of a whole type.

    Raises:
        LoadError: if it runs on none of them.
    """
    try:
        return inputs, _outputs(module, inputs)
    except Exception as error:
        # The module is the user's code: it may raise anything.
        for others in _with_whole_types(inputs, str(error)):
            with contextlib.suppress(Exception):
                return others, _outputs(module, others)
        shapes = ", ".join(f"{name} {'x'.join(map(str, value.shape))}" for name, value in inputs.items())
        raise LoadError(
            f"the module cannot run on {shapes}: {type(error).__name__}: {first_sentence(error)}",
            "check --input-shape against what its forward expects, or give the module a method "
            "`example_inputs` that returns a dict of tensors",
        ) from error


def _outputs(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> Any:
    import torch  # heavy, and an optional extra

    with torch.no_grad():
        return module(**inputs)


def _with_whole_types(inputs: Mapping[str, torch.Tensor], refusal: str) -> Iterator[dict[str, torch.Tensor]]:
    """The inputs with one, two or three of them as zeros of the type that a refusal speaks of."""
    import torch  # heavy, and an optional extra

    kinds = [getattr(torch, kind) for kind, words in _WHOLE_TYPES if re.search(words, refusal, re.IGNORECASE)]
    for count in range(1, min(len(inputs), _MOST_WHOLE_INPUTS) + 1):
        for kind, names in itertools.product(kinds, itertools.combinations(inputs, count)):
            yield {**inputs, **{name: torch.zeros(inputs[name].shape, dtype=kind) for name in names}}


def _output_names(value: Any, inputs: Mapping[str, torch.Tensor]) -> list[str] | None:
    """`output`, `output_0`, ... or a dict's own keys; `None` for nested outputs: torch then names them."""
    import torch  # heavy, and an optional extra

    if isinstance(value, torch.Tensor):
        return ["output"]
    if isinstance(value, Mapping):
        named, tensors = [str(key) for key in value], list(value.values())
    elif isinstance(value, (tuple, list)):
        named, tensors = [f"output_{index}" for index in range(len(value))], list(value)
    else:
        return None
    if not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
        return None
    return [f"output_{name}" if name in inputs else name for name in named]


def _batched(inputs: Mapping[str, torch.Tensor]) -> frozenset[str]:
    first = next(iter(inputs.values()))
    size = first.shape[0] if first.ndim else 0
    return frozenset(name for name, value in inputs.items() if value.ndim and value.shape[0] == size)


def _with_batch(
    inputs: Mapping[str, torch.Tensor], batched: frozenset[str], batch: int
) -> dict[str, torch.Tensor]:
    """The same inputs with `batch` samples: the first one repeated."""
    return {
        name: value[:1].repeat(batch, *(1 for _ in value.shape[1:])) if name in batched else value
        for name, value in inputs.items()
    }


def _export(
    module: torch.nn.Module,
    inputs: dict[str, torch.Tensor],
    outputs: list[str] | None,
    dynamic: frozenset[str],
) -> onnx.ModelProto:
    import torch  # heavy, and an optional extra

    batch = torch.export.Dim("batch")
    free = {name: {0: batch} if name in dynamic else {} for name in inputs}
    with quiet_export():
        program = torch.onnx.export(
            module,
            (),
            kwargs=inputs,
            dynamo=True,
            optimize=False,
            opset_version=OPSET,
            output_names=outputs,
            dynamic_shapes=free if dynamic else None,
            verbose=False,
        )
    return program.model_proto


@contextlib.contextmanager
def quiet_export() -> Iterator[None]:
    """Silence the exporter's prints, warnings and log lines."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    silence = io.StringIO()
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(silence),
            contextlib.redirect_stderr(silence),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

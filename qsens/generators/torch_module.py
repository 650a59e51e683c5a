"""Generators that are a torch module made by a function, with the weights of a checkpoint."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsens.core.errors import SpecError, name_hint
from qsens.core.interfaces import Generator
from qsens.core.own_code import object_named
from qsens.generators.checkpoint import read_tensors, state_digest
from qsens.generators.fitting_weights import fitting_weights
from qsens.generators.refusals import first_sentence
from qsens.generators.torch_export import export_module

if TYPE_CHECKING:
    import onnx
    import torch


class TorchModule(Generator):
    """A torch module in eval mode with its weights, and example inputs to export it with."""

    def __init__(
        self,
        name: str,
        module: torch.nn.Module,
        inputs: Mapping[str, torch.Tensor],
        *,
        weights_read: str | None = None,
    ) -> None:
        self.name = name
        self.weights_read = weights_read
        self.digest = state_digest(module.state_dict())
        self.definition_order = tuple(path for path, _ in module.named_modules())
        self.module = module
        self.example_inputs = dict(inputs)

    def export(self) -> onnx.ModelProto:
        return export_module(self.module, self.example_inputs)


def open_torch(
    checkpoint: Path | None,
    *,
    factory: str,
    arguments: Mapping[str, object] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    trust_checkpoint: bool = False,
    weights: str | None = None,
) -> TorchModule:
    """Make the module, load the checkpoint into it (`None` keeps the weights the factory gave it).

    `weights` names the dict or prefix to take where a checkpoint holds several that fit: `params_ema`.

    `factory` is `package.module:function` (or a class); the folder qsens is started in is searched first.
    `input_shapes` gives the full shape of each parameter of `forward`: float inputs, and whole numbers where
    the module refuses anything else. Without it the module's own `example_inputs` is used (a tensor, a tuple
    or a dict, or a method returning one).

    Raises:
        SpecError: for a factory that cannot be found or called, or inputs that are not known.
        LoadError: for a checkpoint that cannot be read or does not fit the module.
    """
    module, note = make_module(factory, arguments or {}), None
    if checkpoint is not None:
        held = read_tensors(checkpoint, trust_checkpoint=trust_checkpoint)
        fitting = fitting_weights(module, held, checkpoint, wanted=weights)
        module.load_state_dict(dict(fitting.tensors), strict=False)
        note = fitting.note
    module = module.float().eval()
    inputs = example_inputs(module, input_shapes)
    name = checkpoint.stem if checkpoint is not None else factory.partition(":")[2]
    return TorchModule(name, module, inputs, weights_read=note)


def make_module(factory: str, arguments: Mapping[str, object]) -> torch.nn.Module:
    """Call `package.module:function` with keyword arguments.

    Raises:
        SpecError: naming the part that is wrong.
    """
    import torch  # heavy, and an optional extra

    function = _find(factory)
    try:
        module = function(**arguments)
    except TypeError as error:
        raise SpecError(
            f"{factory} cannot be called with {dict(arguments)!r}: {first_sentence(error)}",
            f"its parameters are {_parameters(function)}",
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise SpecError(
            f"{factory} returned a {type(module).__name__}, not a torch module",
            "name a function or class that returns the generator as a torch.nn.Module",
        )
    return module


def _find(factory: str) -> Callable[..., object]:
    found = object_named(factory)
    if not callable(found):
        raise SpecError(f"{factory} is not a function or class", "write it as package.module:function")
    return found  # type: ignore[no-any-return]


def _parameters(function: Callable[..., object]) -> str:
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        return "unknown"


def example_inputs(
    module: torch.nn.Module, input_shapes: Mapping[str, Sequence[int]] | None
) -> dict[str, torch.Tensor]:
    """Example inputs by parameter of `forward`, in its order.

    Raises:
        SpecError: if neither the shapes nor the module say what goes in.
    """
    names = input_names(module)
    parameters = inspect.signature(module.forward).parameters.values()
    required = [entry.name for entry in parameters if entry.default is inspect.Parameter.empty]
    if input_shapes:
        return _from_shapes(input_shapes, names, [name for name in required if name in names])
    given = getattr(module, "example_inputs", None)
    given = given() if callable(given) else given
    if given is None:
        first = names[0] if names else "image"
        raise SpecError(
            "the module does not say what goes in",
            f"give a shape for each input, for example --input-shape {first}=1x3x96x96",
        )
    return _by_name(given, names)


def input_names(module: torch.nn.Module) -> list[str]:
    """The parameters of `forward`, which are the inputs of the graph."""
    parameters = inspect.signature(module.forward).parameters.values()
    return [entry.name for entry in parameters if entry.kind is not inspect.Parameter.VAR_KEYWORD]


def _from_shapes(
    shapes: Mapping[str, Sequence[int]], names: Sequence[str], required: Sequence[str]
) -> dict[str, torch.Tensor]:
    import torch  # heavy, and an optional extra

    for name in shapes:
        if name not in names:
            hint = name_hint(name, names, f"its parameters are {', '.join(names)}")
            raise SpecError(f"forward has no parameter named {name!r}", hint)
    for name in required:
        if name not in shapes:
            raise SpecError(
                f"no shape for input {name!r}", f"add --input-shape {name}=..., with the batch axis first"
            )
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(tuple(shapes[name]), generator=generator) for name in names if name in shapes}


def _by_name(given: Any, names: Sequence[str]) -> dict[str, torch.Tensor]:
    import torch  # heavy, and an optional extra

    if isinstance(given, Mapping):
        by_name = {str(name): value for name, value in given.items()}
    else:
        values = given if isinstance(given, (tuple, list)) else (given,)
        by_name = dict(zip(names, values, strict=False))
    if not by_name or not all(isinstance(value, torch.Tensor) for value in by_name.values()):
        raise SpecError(
            "the module's example_inputs are not tensors", "return a tensor, a tuple or a dict of tensors"
        )
    return by_name

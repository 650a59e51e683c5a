"""A torch module that a program holds: exported from a copy, so that nothing of it changes."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qsens.core.errors import LoadError
from qsens.generators.checkpoint import state_digest
from qsens.generators.refusals import first_sentence
from qsens.generators.torch_export import export_module
from qsens.generators.torch_module import example_inputs, input_names

if TYPE_CHECKING:
    import onnx
    import torch


@dataclass(frozen=True, eq=False)
class LiveModule:
    """A module as it is given: on any device, in any float type, in training or not, with its hooks.

    Forward hooks are part of what it computes, and run while the copy is exported.
    """

    module: torch.nn.Module

    @property
    def name(self) -> str:
        """The name of its class."""
        return type(self.module).__name__

    @property
    def digest(self) -> str:
        """sha256 of its weights and its structure."""
        text = f"{state_digest(self.module.state_dict())} {self.module!r}"
        return hashlib.sha256(text.encode()).hexdigest()

    def export(self, input_shapes: Mapping[str, Sequence[int]] | None, item: Any | None) -> onnx.ModelProto:
        """The ONNX graph of a copy on the CPU, in float32 and eval mode.

        What goes in is of `input_shapes`, else as the module's `example_inputs` says, else as `item` gives
        it: a sample or a batch, with or without a batch axis.

        Raises:
            SpecError: where nothing says what goes in.
            LoadError: if it cannot be copied, run or exported.
        """
        import torch  # heavy, and an optional extra

        with torch.random.fork_rng(devices=[]):
            copied = self._copy()
            says_inputs = input_shapes or getattr(copied, "example_inputs", None) is not None
            if item is None or says_inputs:
                stated = example_inputs(copied, input_shapes)
                return export_module(copied, {name: _as_input(value) for name, value in stated.items()})
            return export_module(copied, _inputs_of(copied, item))

    def _copy(self) -> torch.nn.Module:
        memo = {id(held): held.detach().clone() for held in _computed(self.module)}
        try:
            copied: torch.nn.Module = copy.deepcopy(self.module, memo)
        except Exception as error:  # a module may hold anything, a lock or an open file for one
            raise LoadError(
                f"{self.name} cannot be copied: {type(error).__name__}: {first_sentence(error)}",
                "qsens exports a copy, so that yours does not change: export it yourself with "
                "torch.onnx.export, and give the file",
            ) from error
        return copied.cpu().float().eval().requires_grad_(requires_grad=False)


def _computed(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Tensors that a module computed and keeps, as weight_norm does: they cannot be copied with a graph."""
    import torch  # heavy, and an optional extra

    for part in module.modules():
        for held in vars(part).values():
            if isinstance(held, torch.Tensor) and not held.is_leaf:
                yield held


def _inputs_of(module: torch.nn.Module, item: Any) -> dict[str, torch.Tensor]:
    """An item of the data as inputs by parameter; as it is, or with a batch axis if that makes pictures."""
    import torch  # heavy, and an optional extra

    names, values = input_names(module), item if isinstance(item, tuple | list) else (item,)
    by_name = item if isinstance(item, Mapping) else dict(zip(names, values, strict=False))
    given = {name: _as_input(by_name[name]) for name in names if name in by_name}
    batched = {name: value[None] for name, value in given.items()}
    for inputs in (given, batched):
        # The module is the user's code: it may raise anything.
        with suppress(Exception), torch.no_grad():
            outputs = module(**inputs)
            if any(value.ndim == 4 for value in _tensors(outputs)):
                return inputs
    return given


def _as_input(value: Any) -> torch.Tensor:
    import torch  # heavy, and an optional extra

    value = torch.as_tensor(value).detach().cpu()
    return value.float() if value.is_floating_point() else value


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    import torch  # heavy, and an optional extra

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping | tuple | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(part)

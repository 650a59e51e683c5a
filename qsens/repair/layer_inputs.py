"""The inputs that the weights of a layer multiply, as rows of a matrix: a sample of them, drawn by seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from qsens.graph.editable_graph import attribute_of

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class WeightMatrix:
    """A layer's product as matrices: for each of `groups`, outputs = rows @ matrix^T.

    A weight of shape `shape` is `groups` matrices (output channels, columns); `rows` takes as many
    positions of an activation as are asked for.
    """

    node: onnx.NodeProto
    shape: tuple[int, ...]

    @property
    def groups(self) -> int:
        """Groups of a convolution."""
        return int(attribute_of(self.node, "group", 1))

    @property
    def columns(self) -> int:
        """Inputs of one output value."""
        if self.node.op_type == "Conv":
            return int(np.prod(self.shape[1:]))
        if self.node.op_type == "ConvTranspose":
            return int(self.shape[0] // self.groups * np.prod(self.shape[2:]))
        return int(self.shape[1] if self._is_transposed else self.shape[0])

    @property
    def factor(self) -> float:
        """A Gemm's alpha: outputs are multiplied with it."""
        return float(attribute_of(self.node, "alpha", 1.0))

    @property
    def _is_transposed(self) -> bool:
        return self.node.op_type == "Gemm" and bool(attribute_of(self.node, "transB", 0))

    def split(self, weight: Array) -> Array:
        """The weight as (groups, output channels of a group, columns)."""
        if self.node.op_type == "Conv":
            return weight.reshape(self.groups, -1, self.columns)
        if self.node.op_type == "ConvTranspose":
            # A transposed convolution is a convolution of the spread input with flipped kernels.
            flipped = np.flip(weight, tuple(range(2, weight.ndim)))
            grouped = flipped.reshape(self.groups, -1, *weight.shape[1:])
            return np.ascontiguousarray(np.moveaxis(grouped, 2, 1)).reshape(self.groups, -1, self.columns)
        return (weight if self._is_transposed else weight.T)[None]

    def joined(self, matrices: Array) -> Array:
        """The weight that `split` would make `matrices` of."""
        if self.node.op_type == "Conv":
            return matrices.reshape(self.shape)
        if self.node.op_type == "ConvTranspose":
            inputs = self.shape[0] // self.groups
            grouped = matrices.reshape(self.groups, -1, inputs, *self.shape[2:])
            weight = np.moveaxis(grouped, 1, 2).reshape(self.shape)
            return np.ascontiguousarray(np.flip(weight, tuple(range(2, len(self.shape)))))
        return np.ascontiguousarray(matrices[0] if self._is_transposed else matrices[0].T)

    def rows(self, values: Array, count: int, seed: int) -> Array:
        """At most `count` rows (groups, rows, columns) of the layer's operand for one feed, any positions."""
        draw = np.random.default_rng(seed)
        if self.node.op_type not in ("Conv", "ConvTranspose"):
            flat = values.T if attribute_of(self.node, "transA", 0) else values
            flat = flat.reshape(-1, flat.shape[-1])
            return flat[_some(draw, len(flat), count)][None]
        windows = self._windows(values)
        places = windows.shape[:1] + windows.shape[2 : windows.ndim - self._rank]
        chosen = np.unravel_index(_some(draw, int(np.prod(places)), count), places)
        everything: Any = slice(None)
        taken = windows[(chosen[0], everything, *chosen[1:])]
        return np.moveaxis(taken.reshape(len(taken), self.groups, self.columns), 1, 0)

    @property
    def _rank(self) -> int:
        return len(self.shape) - 2

    def _windows(self, values: Array) -> Array:
        """A view (N, C, positions..., kernel...) of the padded operand."""
        rank = self._rank
        kernel, dilations = self.shape[2:], self._sides("dilations", 1)
        extent = [(side - 1) * step + 1 for side, step in zip(kernel, dilations, strict=True)]
        strides = self._sides("strides", 1)
        before, after = self._pads(values.shape[2:], extent, strides)
        if self.node.op_type == "ConvTranspose":
            values = _spread(values, strides)
            extra = self._sides("output_padding", 0)
            # Its pads cut the output: around the spread input stands what they leave of the kernel.
            before = [side - 1 - pad for side, pad in zip(extent, before, strict=True)]
            after = [side - 1 - pad + more for side, pad, more in zip(extent, after, extra, strict=True)]
            strides = [1] * rank
        padded = _padded(values, before, after)
        axes = tuple(range(2, 2 + rank))
        view = np.lib.stride_tricks.sliding_window_view(padded, extent, axis=axes)
        steps = tuple(slice(None, None, step) for step in strides)
        inner = tuple(slice(None, None, step) for step in dilations)
        return view[(slice(None), slice(None), *steps, *inner)]

    def _pads(
        self, sides: Sequence[int], extent: Sequence[int], strides: Sequence[int]
    ) -> tuple[list[int], list[int]]:
        auto = attribute_of(self.node, "auto_pad", b"NOTSET")
        name = auto.decode() if isinstance(auto, bytes) else str(auto)
        if name in ("NOTSET", "VALID"):
            pads = [0] * (2 * self._rank) if name == "VALID" else self._sides("pads", 0, 2)
            return pads[: self._rank], pads[self._rank :]
        totals = [
            max((-(-side // step) - 1) * step + reach - side, 0)
            for side, step, reach in zip(sides, strides, extent, strict=True)
        ]
        if self.node.op_type == "ConvTranspose":
            totals = [max(reach - step, 0) for reach, step in zip(extent, strides, strict=True)]
        small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
        return (large, small) if name == "SAME_LOWER" else (small, large)

    def _sides(self, name: str, default: int, ends: int = 1) -> list[int]:
        return list(attribute_of(self.node, name, [default] * (self._rank * ends)))


def _some(draw: np.random.Generator, total: int, count: int) -> Array:
    return np.arange(total) if total <= count else np.sort(draw.choice(total, count, replace=False))


def _spread(values: Array, strides: Sequence[int]) -> Array:
    """The operand with zeros between its values, as a transposed convolution sees it."""
    sides = [(side - 1) * step + 1 for side, step in zip(values.shape[2:], strides, strict=True)]
    spread = np.zeros((*values.shape[:2], *sides), values.dtype)
    spread[(slice(None), slice(None), *(slice(None, None, step) for step in strides))] = values
    return spread


def _padded(values: Array, before: Sequence[int], after: Sequence[int]) -> Array:
    """Zeros added at each end, or values taken away where a number is negative."""
    wider = [(0, 0), (0, 0), *((max(low, 0), max(high, 0)) for low, high in zip(before, after, strict=True))]
    padded = np.pad(values, wider)
    cuts = [
        slice(max(-low, 0), side - max(-high, 0))
        for low, high, side in zip(before, after, padded.shape[2:], strict=True)
    ]
    return padded[(slice(None), slice(None), *cuts)]

"""Vision transformers in ONNX straight from their weights: what the extractors `dinov2` and `clip` share.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", with the class token as the picture's vector.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsens.core.errors import LoadError, install_hint
from qsens.scoring.convolution_graph import ConvolutionGraph, FoldedConvolution, Weights

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.float32]
# Of every transformer that is read here; their widths are multiples of it.
HEAD_WIDTH = 64


@dataclass(frozen=True, eq=False)
class VisionTransformer:
    """Weights of a transformer by the names of DINOv2, float32, and what they do not say.

    `patches`: `patch_embed.proj.weight` (D, 3, p, p), perhaps `.bias` (D,). `table`: float32 (1 + h * w, D),
    what is added to the tokens: row 0 is the class token, the others positions. `blocks.N.` hold `norm1`,
    `attn.qkv`, `attn.proj`, `norm2`, `mlp.fc1`, `mlp.fc2`, and `ls1.gamma`, `ls2.gamma` where layers are
    scaled. Perhaps `norm_pre`, before the blocks; `norm`; perhaps `head` (D, K), a projection. `epsilon` is
    that of the norms; `has_quick_gelu` for x * sigmoid(1.702 x) instead of GELU.
    """

    weights: Weights
    table: Array
    epsilon: float
    has_quick_gelu: bool

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return int(self.weights["patch_embed.proj.weight"].shape[2])

    @property
    def dimension(self) -> int:
        """The number of features."""
        head = self.weights.get("head")
        return int(self.table.shape[1] if head is None else head.shape[1])

    def graph(self, graph: ConvolutionGraph, pixels: str) -> onnx.ModelProto:
        """The network on `pixels`, float32 (N, 3, h * p, w * p), prepared as it was trained."""
        return _Builder(graph, self).model(pixels)


def transformer_weights(path: Path, wanted: str) -> dict[str, Array]:
    """Arrays by name, float32, of a checkpoint or TorchScript archive; no code of the file is run.

    Raises:
        LoadError: if torch is missing, or the file lacks the weight `wanted`.
    """
    try:
        from qsens.generators.checkpoint import read_weights  # deferred: its readers need torch

        tensors = read_weights(path)
    except ImportError:
        raise LoadError(
            f"reading {path.name} needs torch, which is not installed", install_hint("fid")
        ) from None
    if wanted not in tensors:
        raise LoadError(f"{path} holds no {wanted}", "use the file as it was published")
    return {name: tensor.detach().float().numpy() for name, tensor in tensors.items()}


def normalised(graph: ConvolutionGraph, pixels: str, mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    """Pixels from 0 to 255 as the network reads them; `mean` and `std` are of pixels from 0 to 1, RGB."""
    shift, scale = (
        graph.constant(255.0 * np.asarray(values, np.float32).reshape(3, 1, 1)) for values in (mean, std)
    )
    return graph.add("Div", [graph.add("Sub", [pixels, shift]), scale])


class _Builder:
    """Adds the layers of a transformer; methods take and return names of tensors (N, T, D)."""

    def __init__(self, graph: ConvolutionGraph, network: VisionTransformer) -> None:
        self.graph = graph
        self.network = network
        self.weights = network.weights
        self.tokens, self.width = network.table.shape

    def model(self, pixels: str) -> onnx.ModelProto:
        current = self._embedded(pixels)
        if "norm_pre.weight" in self.weights:
            current = self._normed(current, "norm_pre")
        for prefix in self._blocks():
            current = self._block(current, prefix)
        picked = self.graph.add("Gather", [current, self.graph.constant(np.array(0, np.int64))], axis=1)
        features = self._normed(picked, "norm")
        if "head" in self.weights:
            features = self.graph.add("MatMul", [features, self.graph.constant(self.weights["head"])])
        return self.graph.model_of_vectors(features, self.network.dimension)

    def _blocks(self) -> Iterator[str]:
        place = 0
        while f"blocks.{place}.norm1.weight" in self.weights:
            yield f"blocks.{place}."
            place += 1

    def _embedded(self, pixels: str) -> str:
        kernel = self.weights["patch_embed.proj.weight"]
        bias = self.weights.get("patch_embed.proj.bias", np.zeros(len(kernel), np.float32))
        maps = self.graph.convolution(
            pixels, FoldedConvolution(kernel, bias), (0, 0, 0, 0), stride=self.network.patch
        )
        rows = self.graph.add("Reshape", [maps, self._shape(0, self.width, -1)])
        rows = self.graph.add("Transpose", [rows], perm=[0, 2, 1])
        # An empty row in front is where the table has the class token.
        padded = self.graph.add("Pad", [rows, self._shape(0, 1, 0, 0, 0, 0)])
        return self.graph.add("Add", [padded, self.graph.constant(self.network.table)])

    def _block(self, source: str, prefix: str) -> str:
        attended = self._attention(self._normed(source, f"{prefix}norm1"), f"{prefix}attn.")
        current = self.graph.add("Add", [source, self._scaled(attended, f"{prefix}ls1.gamma")])
        hidden = self._linear(self._normed(current, f"{prefix}norm2"), f"{prefix}mlp.fc1")
        hidden = self._linear(self._activated(hidden), f"{prefix}mlp.fc2")
        return self.graph.add("Add", [current, self._scaled(hidden, f"{prefix}ls2.gamma")])

    def _attention(self, source: str, prefix: str) -> str:
        """Softmax of scaled products over all tokens, by head."""
        weight, bias = (self.weights[f"{prefix}qkv.{name}"] for name in ("weight", "bias"))
        # Queries are scaled by the head's width once and for all.
        scales = (1.0 / math.sqrt(HEAD_WIDTH), 1.0, 1.0)
        orders = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        query, key, value = (
            self._heads(self._affine(source, scale * part, scale * shift), order)
            for part, shift, scale, order in zip(
                np.split(weight, 3), np.split(bias, 3), scales, orders, strict=True
            )
        )
        shares = self.graph.add("Softmax", [self.graph.add("MatMul", [query, key])], axis=-1)
        mixed = self.graph.add("MatMul", [shares, value])
        mixed = self.graph.add("Transpose", [mixed], perm=[0, 2, 1, 3])
        mixed = self.graph.add("Reshape", [mixed, self._shape(0, self.tokens, self.width)])
        return self._linear(mixed, f"{prefix}proj")

    def _heads(self, source: str, order: list[int]) -> str:
        shape = self._shape(0, self.tokens, self.width // HEAD_WIDTH, HEAD_WIDTH)
        return self.graph.add("Transpose", [self.graph.add("Reshape", [source, shape])], perm=order)

    def _activated(self, source: str) -> str:
        if self.network.has_quick_gelu:
            steep = self.graph.add("Mul", [source, self.graph.scalar(1.702)])
            return self.graph.add("Mul", [source, self.graph.add("Sigmoid", [steep])])
        bent = self.graph.add("Erf", [self.graph.add("Div", [source, self.graph.scalar(math.sqrt(2.0))])])
        share = self.graph.add("Add", [bent, self.graph.scalar(1.0)])
        return self.graph.add("Mul", [self.graph.add("Mul", [source, share]), self.graph.scalar(0.5)])

    def _normed(self, source: str, name: str) -> str:
        scale, bias = (self.graph.constant(self.weights[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self.graph.add(
            "LayerNormalization", [source, scale, bias], axis=-1, epsilon=self.network.epsilon
        )

    def _scaled(self, source: str, name: str) -> str:
        gamma = self.weights.get(name)
        return source if gamma is None else self.graph.add("Mul", [source, self.graph.constant(gamma)])

    def _linear(self, source: str, name: str) -> str:
        return self._affine(source, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _affine(self, source: str, weight: NDArray[Any], bias: NDArray[Any]) -> str:
        product = self.graph.add("MatMul", [source, self.graph.constant(np.ascontiguousarray(weight.T))])
        return self.graph.add("Add", [product, self.graph.constant(bias)])

    def _shape(self, *sides: int) -> str:
        return self.graph.constant(np.array(sides, np.int64))

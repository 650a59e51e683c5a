"""DINOv2 ViT-L/14, of which FD-DINOv2 follows what people see best: 1024 features at 224 pixels.

Network and weights: Oquab et al. 2023, "DINOv2: Learning Robust Visual Features without Supervision"
(Apache-2.0). Its use for Fréchet distances, and the preprocessing: Stein et al. 2023, "Exposing flaws of
generative model evaluation metrics and their unfair treatment of diffusion models" (arXiv 2306.04675).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qsens.core.interfaces import Extractor
from qsens.scoring.convolution_graph import ConvolutionGraph
from qsens.scoring.feature_session import SessionFeatures, built_graph, user_cache_folder
from qsens.scoring.vision_transformer import Array, VisionTransformer, normalised, transformer_weights
from qsens.scoring.weights import PublishedFile, torch_hub_folder

if TYPE_CHECKING:
    import onnx

NAME = "dinov2"
INPUT_SIZE = 224
PREPROCESSING = "rgb-bicubic-antialias-bytes-224-imagenet"
# The sha256 is as several projects that pin the file at this address state it.
FILE = PublishedFile(
    name="dinov2_vitl14_pretrain.pth",
    url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
    sha256="d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
    size="1.2 GB",
    folder=torch_hub_folder,
    option=f"extractor.{NAME}.weights",
)
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
EPSILON = 1e-6
# DINOv2 was published with this much added to the number of patches before positions are interpolated.
INTERPOLATION_OFFSET = 0.1


def problem() -> str | None:
    """The reason that it cannot be used here without a download; `None` where it can."""
    return FILE.problem()


def open_dinov2(
    *, weights: str | None = None, threads: int = 0, cache: Path | None = None, download: bool = False
) -> Extractor:
    """DINOv2 ViT-L/14 with the weights at a path, in torch's cache, or fetched to it.

    Raises:
        LoadError: if the weights are missing, another file, or cannot be read.
    """
    path = FILE.located(weights, download=download)
    return load_dinov2(path, FILE.sha256, threads=threads, cache=cache or user_cache_folder())


def load_dinov2(path: Path, sha256: str, *, threads: int = 0, cache: Path | None = None) -> Extractor:
    """A network of that form, whose file has that sha256. Raises `LoadError`."""
    digest = FILE.checked(path, sha256)
    graph = built_graph(lambda: build_graph(path), NAME, digest, cache)
    run = SessionFeatures(graph, threads)
    return Extractor(
        name=NAME,
        dimension=run.dimension,
        input_size=INPUT_SIZE,
        preprocessing=PREPROCESSING,
        weights_sha256=digest,
        run=run,
    )


def build_graph(path: Path) -> onnx.ModelProto:
    """ONNX graph up to the class token behind the last norm, for uint8 RGB images of any size."""
    weights = transformer_weights(path, "pos_embed")
    side = INPUT_SIZE // weights["patch_embed.proj.weight"].shape[2]
    table = positions(weights["pos_embed"][0], side)
    table[0] += weights["cls_token"][0, 0]
    graph = ConvolutionGraph()
    # Pillow's filter, which leaves whole levels.
    resized = graph.resized((INPUT_SIZE, INPUT_SIZE), antialias=True, mode="cubic")
    whole = graph.add("Round", [graph.add("Clip", [resized, graph.scalar(0.0), graph.scalar(255.0)])])
    network = VisionTransformer(weights, table, EPSILON, has_quick_gelu=False)
    return network.graph(graph, normalised(graph, whole, MEAN, STD))


def positions(known: Array, side: int) -> Array:
    """Positions (1 + side * side, D) of the class token and of patches, from those of another grid.

    As the network's own code does it: bicubic, without antialiasing, by a factor that is a little too large.
    """
    grid = math.isqrt(len(known) - 1)
    if grid == side:
        return known.copy()
    import torch  # deferred: heavy, and only needed while the graph is built

    factor = (side + INTERPOLATION_OFFSET) / grid
    maps = torch.from_numpy(known[1:].reshape(1, grid, grid, -1)).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(maps, scale_factor=(factor, factor), mode="bicubic")
    rows = resized[0].permute(1, 2, 0).reshape(side * side, -1).numpy()
    return np.concatenate([known[:1], rows])

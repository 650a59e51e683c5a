"""CLIP ViT-L/14 at 336 pixels, whose 768 features CMMD compares.

Network and weights: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language
Supervision" (MIT). Preprocessing: Jayasumana et al. 2024, "Rethinking FID: Towards a Better Evaluation Metric
for Image Generation" (arXiv 2401.09603), which resizes bicubically without antialiasing.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from qsens.core.interfaces import Extractor
from qsens.scoring.convolution_graph import ConvolutionGraph
from qsens.scoring.feature_session import SessionFeatures, built_graph, user_cache_folder
from qsens.scoring.vision_transformer import Array, VisionTransformer, normalised, transformer_weights
from qsens.scoring.weights import PublishedFile

if TYPE_CHECKING:
    import onnx

NAME = "clip"
INPUT_SIZE = 336
PREPROCESSING = "rgb-bicubic-336-clip"
_SHA256 = "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"
# The address holds the sha256, as OpenAI's package reads it from there.
FILE = PublishedFile(
    name="ViT-L-14-336px.pt",
    url=f"https://openaipublic.azureedge.net/clip/models/{_SHA256}/ViT-L-14-336px.pt",
    sha256=_SHA256,
    size="0.9 GB",
    folder=lambda: Path.home() / ".cache" / "clip",
    option=f"extractor.{NAME}.weights",
)
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
EPSILON = 1e-5
# The names of CLIP's parts, in the words of `VisionTransformer`.
_OURS = {
    "conv1.": "patch_embed.proj.",
    "ln_pre.": "norm_pre.",
    "ln_post.": "norm.",
    "transformer.resblocks.": "blocks.",
    ".ln_1.": ".norm1.",
    ".ln_2.": ".norm2.",
    ".attn.in_proj_": ".attn.qkv.",
    ".attn.out_proj.": ".attn.proj.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
}


def problem() -> str | None:
    """The reason that it cannot be used here without a download; `None` where it can."""
    return FILE.problem()


def open_clip(
    *, weights: str | None = None, threads: int = 0, cache: Path | None = None, download: bool = False
) -> Extractor:
    """CLIP ViT-L/14-336 with the weights at a path, in the cache of OpenAI's package, or fetched to it.

    Raises:
        LoadError: if the weights are missing, another file, or cannot be read.
    """
    path = FILE.located(weights, download=download)
    return load_clip(path, FILE.sha256, threads=threads, cache=cache or user_cache_folder())


def load_clip(path: Path, sha256: str, *, threads: int = 0, cache: Path | None = None) -> Extractor:
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
    """ONNX graph up to the picture's embedding, not normalised, for uint8 RGB images of any size."""
    weights = {_renamed(name): array for name, array in _of_pictures(path).items()}
    table = weights["positional_embedding"].copy()
    table[0] += weights["class_embedding"]
    weights["head"] = weights["proj"]
    network = VisionTransformer(weights, table, EPSILON, has_quick_gelu=True)
    side = math.isqrt(len(table) - 1) * network.patch
    graph = ConvolutionGraph()
    resized = graph.resized((side, side), antialias=False, mode="cubic")
    return network.graph(graph, normalised(graph, resized, MEAN, STD))


def _of_pictures(path: Path) -> dict[str, Array]:
    """The half of CLIP that sees; the other one reads text."""
    start = "visual."
    weights = transformer_weights(path, f"{start}positional_embedding")
    return {name.removeprefix(start): array for name, array in weights.items() if name.startswith(start)}


def _renamed(name: str) -> str:
    for theirs, ours in _OURS.items():
        name = name.replace(theirs, ours)
    return name

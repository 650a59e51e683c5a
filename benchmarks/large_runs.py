"""Large runs of the demo generators: features and pixel errors of a few maps over thousands of inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qsens.cli.demo import PHOTOGRAPHS, STYLE, STYLE_COUNT
from qsens.core.layer import Layer, map_of, uniform_map
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import SweepSpec
from qsens.run.evaluate import Evaluator, calibrated_workload
from qsens.run.evidence import load_evidence
from qsens.run.folder import RunFolder
from qsens.run.open import open_sweep
from qsens.zoo.corpus.writing import CorpusPlan, write_corpus
from qsens.zoo.talker.demo import FRAMES_PER_CLIP, demo_set

SIDE, STRIDE, LEAST_DEVIATION = 96, 32, 15.0
CALIBRATION_IMAGES = 40
CALIBRATION_SAMPLES = 28
CORPUS_SEED = 9103
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MadeMap:
    """One map over all inputs: features (N, D), mean squared error and SSIM of each image (N,)."""

    features: NDArray[np.float32] = field(repr=False)
    squared_errors: FloatArray = field(repr=False)
    similarities: FloatArray = field(repr=False)


@dataclass(frozen=True, eq=False)
class LargeRun:
    """A generator over many inputs: FP32's features, the real images', maps by name, clips (N,) if any."""

    name: str
    fp32: NDArray[np.float32] = field(repr=False)
    reference: NDArray[np.float32] = field(repr=False)
    maps: Mapping[str, MadeMap]
    clusters: NDArray[np.intp] | None

    @property
    def images(self) -> int:
        """N."""
        return len(self.fp32)

    @property
    def images_per_clip(self) -> int:
        """Frames of a clip, 1 without clips."""
        return 1 if self.clusters is None else self.images // (int(self.clusters.max()) + 1)

    def draw(self, random: np.random.Generator, images: int) -> NDArray[np.intp]:
        """Indices of that many images, without replacement, whole clips."""
        if self.clusters is None:
            return np.sort(random.choice(self.images, images, replace=False))
        clips = random.choice(int(self.clusters.max()) + 1, images // self.images_per_clip, replace=False)
        return np.flatnonzero(np.isin(self.clusters, clips))


def talker_run(folder: Path, images: int) -> LargeRun:
    """The demo talker on unseen speakers of the procedural corpus; the reference is their real frames."""
    return _kept(folder, "talker", images, _make_talker)


def style_run(folder: Path, images: int) -> LargeRun:
    """The style network on crops of photographs; the reference is other crops, held out."""
    return _kept(folder, "style", images, _make_style)


def _kept(
    folder: Path, name: str, images: int, make: Callable[[Path, int], dict[str, NDArray[Any]]]
) -> LargeRun:
    """The run whose arrays the folder keeps, made first where it does not."""
    path = folder / f"{name}-{images}.npz"
    if not path.exists():
        np.savez(path, **make(folder, images))
    with np.load(path) as file:
        arrays = dict(file)
    maps = {
        label: MadeMap(
            *(arrays[f"{label}/{part}"] for part in ("features", "squared_errors", "similarities"))
        )
        for label in arrays["labels"].tolist()
    }
    return LargeRun(name, arrays["fp32"], arrays["reference"], maps, arrays.get("clusters"))


def _make_talker(folder: Path, images: int) -> dict[str, NDArray[Any]]:
    corpus = folder / "talker-corpus"
    if not corpus.exists():
        write_corpus(
            corpus, CorpusPlan(seed=CORPUS_SEED, frames_per_clip=FRAMES_PER_CLIP), images, 1, _silent
        )
    values = {
        "model": "wav2lip",
        "calibration": str(demo_set("calibration", folder)),
        "evaluation": str(corpus),
        "reference": str(corpus),
        "calibration_samples": 80,
        "placement": "dense",
    }
    return _made("talker", folder, values, images)


def _make_style(folder: Path, images: int) -> dict[str, NDArray[Any]]:
    parts = _write_crops(folder / "style-crops", images)
    weights = [0.0] * STYLE_COUNT
    weights[STYLE] = 1.0
    values = {
        "model": "style",
        **{part: str(path) for part, path in parts.items()},
        "calibration_samples": CALIBRATION_SAMPLES,
        "inputs": {"style_weights": {"source": "constant", "value": weights}},
    }
    return _made("style", folder, values, images)


def _made(name: str, folder: Path, values: Mapping[str, Any], images: int) -> dict[str, NDArray[Any]]:
    """Score FP32 and the maps."""
    fixed = {"metrics": ["fid-fp32", "psnr", "ssim"], "extractor": "lite0", "threads": 1}
    opened = open_sweep(SweepSpec.from_mapping({**fixed, "evaluation_samples": images, **values}))
    arrays: dict[str, NDArray[Any]] = {}
    with RunFolder.open(folder / f"{name}-run", opened.spec) as run:
        work = calibrated_workload(opened, run, _silent)
        evaluate = Evaluator(work, evidence=run.evidence, samples=run.samples, fp32=None)
        for number, (label, wanted) in enumerate(_maps(opened.graph.layers).items()):
            scores = {score.metric: score.value for score in evaluate(number, wanted).scores}
            kept = load_evidence(run.evidence, number)
            assert kept is not None, "the evaluator has just written it"
            assert kept.features is not None, "the metrics need features"
            if number == 0:
                arrays["fp32"] = kept.features
                continue
            arrays[f"{label}/features"] = kept.features
            arrays[f"{label}/squared_errors"] = _squared_errors(scores["psnr"], kept.influences["psnr"])
            arrays[f"{label}/similarities"] = kept.influences["ssim"] + scores["ssim"]
        arrays["labels"] = np.array(
            [label.partition("/")[0] for label in arrays if label.endswith("/features")]
        )
        arrays["reference"] = np.asarray(work.context.reference_features)
        if work.context.clusters is not None:
            arrays["clusters"] = work.context.clusters
    return arrays


def _maps(layers: Sequence[Layer]) -> dict[str, PrecisionMap]:
    """FP32, INT8 everywhere, and INT8 in the first half of the layers."""
    half = len(layers) // 2
    cut = {layer.name: Precision.INT8 if layer.index < half else Precision.FP16 for layer in layers}
    return {
        "fp32": PrecisionMap(Precision.FP32),
        "INT8": uniform_map(layers, Precision.INT8),
        "INT8 then FP16": map_of(layers, cut),
    }


def _squared_errors(psnr: float, influence: FloatArray) -> FloatArray:
    """Each image's mean squared error, from the pooled PSNR and the influences on it."""
    mean = 255.0**2 / 10.0 ** (psnr / 10.0)
    return np.asarray(mean * (1.0 - influence * math.log(10.0) / 10.0))


def _write_crops(folder: Path, images: int) -> dict[str, Path]:
    """Folders of inputs, of calibration images and of real images, at random from all photographs."""
    parts = {part: folder / part for part in ("evaluation", "calibration", "reference")}
    if folder.exists():
        return parts
    crops = [crop for name in PHOTOGRAPHS for crop in _crops(name)]
    order = np.random.default_rng(0).permutation(len(crops))
    ends = np.cumsum([images, CALIBRATION_IMAGES])
    for path, indices in zip(parts.values(), np.split(order, ends), strict=True):
        path.mkdir(parents=True)
        for place, index in enumerate(indices[:images]):
            Image.fromarray(crops[index]).save(path / f"{place:05d}.png")
    return parts


def _crops(name: str) -> list[NDArray[np.uint8]]:
    """Overlapping crops of a photograph, whole and at half size, that are not flat."""
    from skimage import data  # an optional extra

    found = getattr(data, name)()
    whole = np.asarray(found[0] if isinstance(found, tuple | list) else found)[..., :3]
    half = np.asarray(Image.fromarray(whole).resize((whole.shape[1] // 2, whole.shape[0] // 2)))
    places = [
        pixels[top : top + SIDE, left : left + SIDE]
        for pixels in (whole, half)
        for top in range(0, pixels.shape[0] - SIDE + 1, STRIDE)
        for left in range(0, pixels.shape[1] - SIDE + 1, STRIDE)
    ]
    return [crop for crop in places if crop.std() > LEAST_DEVIATION]


def _silent(done: int, total: int, label: str) -> None:
    """Report no progress."""

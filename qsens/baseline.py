"""What FP32 made of the evaluation set: kept in the run folder, since every map is compared with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qsens.core.files import write_atomically
from qsens.core.trial import Trial
from qsens.device.npz_sizes import mapped_array
from qsens.run.evidence import Evidence, is_pictures, load_evidence

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class Baseline:
    """FP32 over some samples: `images` uint8 (N, 3, H, W), its evidence, and its scores by metric."""

    images: Array
    evidence: Evidence
    values: Mapping[str, float]


def keep_baseline(folder: Path, images: Array, evidence: Evidence, values: Mapping[str, float]) -> Baseline:
    """Write the FP32 images to the evidence folder; the baseline reads them from there.

    Raises:
        RunFolderError: if the file cannot be written.
    """
    path = _images_path(folder)
    write_atomically(path, lambda file: np.save(file, images, allow_pickle=False))
    return Baseline(np.load(path, mmap_mode="r"), evidence, values)


def load_baseline(folder: Path, fp32: Trial, images: int) -> Baseline | None:
    """What the FP32 trial of that many images left in the evidence folder; `None` where a file is gone."""
    evidence = load_evidence(folder, fp32.number)
    try:
        pictures: Array = mapped_array(_images_path(folder))
    except (OSError, ValueError):
        return None
    if evidence is None or not is_pictures(pictures) or len(pictures) != images:
        return None
    kept = [evidence.features, evidence.clusters, *evidence.influences.values()]
    if any(values is not None and len(values) != images for values in kept):
        return None
    return Baseline(pictures, evidence, {score.metric: score.value for score in fp32.scores})


def _images_path(folder: Path) -> Path:
    return folder / "fp32-images.npy"

"""FLIP: what a person sees who flips between a map's picture and FP32's."""

from __future__ import annotations

import flip_evaluator
import numpy as np
from numpy.typing import NDArray

from qsens.core.interfaces import Metric, ScoringContext
from qsens.core.metric_names import BUILT_IN
from qsens.scoring.fidelity import FloatArray, ImageAccumulator, Images, mean_of


class Flip(Metric):
    """Mean over images of LDR-FLIP's mean error, 0 for equal pictures, at most 1.

    Andersson et al. 2020, "FLIP: A Difference Evaluator for Alternating Images", as its authors' package
    `flip-evaluator` computes it, at its own 67 pixels a degree (a 0.7 m wide 4K screen seen from 0.7 m).
    """

    name = "flip"
    lower_is_better = True
    needs_features = False
    needs_reference = False
    facts = BUILT_IN["flip"]

    def label(self, context: ScoringContext) -> str:
        return self.name

    def start(self, context: ScoringContext) -> ImageAccumulator:
        return ImageAccumulator(self, context, mean_differences, mean_of)


def mean_differences(images: Images, baseline: Images) -> FloatArray:
    """Mean FLIP error of each image, uint8 (N, 3, H, W) RGB, 0 to 1; (N,)."""
    pairs = zip(images, baseline, strict=True)
    return np.array([difference_map(*pair).mean(dtype=np.float64) for pair in pairs])


def difference_map(image: Images, baseline: Images) -> NDArray[np.float32]:
    """FLIP error of each pixel, 0 to 1, float32 (H, W), of two uint8 (3, H, W) sRGB pictures."""
    sides = [np.ascontiguousarray(side.transpose(1, 2, 0), np.float32) / 255 for side in (baseline, image)]
    found: NDArray[np.float32] = flip_evaluator.evaluate(*sides, "LDR", applyMagma=False)[0]
    return found[..., 0]

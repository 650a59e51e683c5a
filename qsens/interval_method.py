"""How 95 % intervals of scores are made: the calibrated factor, the words for it, and images that suffice."""

import math
from statistics import NormalDist

from qsens.core.errors import SpecError

FRECHET_CALIBRATION = 1.1
"""Factor on the influence of Fréchet distances, after the corrections for few groups and for second order.

From `benchmarks/coverage.py`: what the first-order error of a paired difference lacks on features of real
generators (EfficientNet-Lite0, N below D), and the noise of the error itself. Linear scores need no factor.
"""

_COMMON = "influence function, clustered by clip, Student's t"
_SECOND_ORDER = f"{_COMMON}, second order from halves"
_HEAVY_TAILS = f"{_COMMON} with degrees of freedom from the kurtosis"
_METHODS = {
    "fid": f"{_SECOND_ORDER}, factor {FRECHET_CALIBRATION}",
    "fid-fp32": f"{_SECOND_ORDER}, factor {FRECHET_CALIBRATION}",
    "psnr": _HEAVY_TAILS,
    "ssim": _HEAVY_TAILS,
    "kid": _SECOND_ORDER,
    "kid-fp32": _SECOND_ORDER,
}


def interval_method(metric: str) -> str:
    """How this version makes the 95% interval of a score of that name.

    >>> interval_method("flicker")
    "influence function, clustered by clip, Student's t"
    """
    return _METHODS.get(metric.partition("[")[0], _COMMON)


def images_needed(difference_se: float, images: int, half_width: float) -> int:
    """How many images would make the 95% interval of a difference ± `half_width`, from its error at `images`.

    Errors fall with the root of the number of images; frames of clips are counted in clips of the same
    length, so more of them means more clips.

    Raises:
        SpecError: for a half-width that is not positive.

    >>> images_needed(0.5, 400, 0.49)
    1600
    """
    if not half_width > 0.0:
        raise SpecError(f"half_width={half_width}", "ask for a precision above 0")
    # An error beyond all measure, as a damaged record may hold, asks for more than anybody has.
    ratio = min(NormalDist().inv_cdf(0.975) * difference_se / half_width, 1e9)
    return max(2, math.ceil(images * ratio**2))

"""How 95 % intervals of scores are made: the calibrated factor, and the words that reports use for it."""

FRECHET_CALIBRATION = 1.1
"""Factor on the influence of Fréchet distances, after the corrections for few groups and for second order.

From `benchmarks/coverage.py`: what the first-order error of a paired difference lacks on features of real
generators (EfficientNet-Lite0, N below D), and the noise of the error itself. Linear scores need no factor.
"""

_COMMON = "influence function, clustered by clip, Student's t"
_SECOND_ORDER = f"{_COMMON}, second order from halves"
_METHODS = {
    "fid": f"{_SECOND_ORDER}, factor {FRECHET_CALIBRATION}",
    "fid-fp32": f"{_SECOND_ORDER}, factor {FRECHET_CALIBRATION}",
    "kid": _SECOND_ORDER,
    "kid-fp32": _SECOND_ORDER,
}


def interval_method(metric: str) -> str:
    """How this version makes the 95% interval of a score of that name.

    >>> interval_method("psnr")
    "influence function, clustered by clip, Student's t"
    """
    return _METHODS.get(metric.partition("[")[0], _COMMON)

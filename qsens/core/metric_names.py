"""Names, order and scale of metrics wherever they are shown, and the ways to make their intervals."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

from qsens.core.errors import SpecError
from qsens.core.trial import Study

if TYPE_CHECKING:
    pass


FRECHET_CALIBRATION = 1.1
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
PSNR_CAP_DB = 100.0
_TITLES = {
    "fid": "{} against real images",
    "fid-fp32": "{} against the FP32 outputs",
    "psnr": "{} against the FP32 outputs (dB)",
    "ssim": "{} against the FP32 outputs",
}
_SHORT = {
    "fid": "FID",
    "fid-fp32": "FID-FP32",
    "kid": "KID",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "lse-d": "LSE-D",
    "lse-c": "LSE-C",
}
_HEADLINE = ("fid", "fid-fp32", "psnr")
DAMAGE = "fid-fp32"
PSNR = "psnr"
HEADLINES = ("fid", DAMAGE, PSNR)
Z95 = 1.959964

"""Factor on the influence of Fréchet distances, after the corrections for few groups and for second order.

From `benchmarks/coverage.py`: what the first-order error of a paired difference lacks on features of real
generators (EfficientNet-Lite0, N below D), and the noise of the error itself. Linear scores need no factor.
"""


def interval_method(metric: str) -> str:
    """The way in which this version makes the 95% interval of a score of that name.

    >>> interval_method("flicker")
    "influence function, clustered by clip, Student's t"
    """
    return _METHODS.get(metric.partition("[")[0], _COMMON)


def images_needed(difference_se: float, images: int, half_width: float) -> int:
    """The number of images that makes a difference's 95% interval ± `half_width`, from its error at `images`.

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


"""What records hold for equal pictures, as JSON has no infinity: one pixel value in 150,000 off by one."""


def shown_value(metric: str, value: float) -> float:
    """A score as tables and figures show it: the PSNR of equal pictures is infinite.

    >>> shown_value("psnr", 100.0), shown_value("psnr", 41.5), shown_value("fid[lite0]", 100.0)
    (inf, 41.5, 100.0)
    """
    return math.inf if metric == PSNR and value >= PSNR_CAP_DB else value


def base_name(metric: str) -> str:
    """The metric without its extractor: `fid` for `fid[lite0]`."""
    return metric.partition("[")[0]


def extractor_name(metric: str) -> str:
    """The extractor in square brackets, `lite0` for `fid[lite0]`, or an empty text."""
    return metric.partition("[")[2].rstrip("]")


def short_name(metric: str) -> str:
    """The metric as written in running text; the extractor always stays visible."""
    base = base_name(metric)
    return _SHORT.get(base, base) + metric[len(base) :]


def axis_title(metric: str) -> str:
    """The metric with what it is measured against, for an axis or a heading."""
    base = base_name(metric)
    shown = {"fid-fp32": "FID" + metric[len(base) :]}.get(base, short_name(metric))
    return _TITLES.get(base, "{}").format(shown)


def headline_metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    """Distance to real images, distance to FP32 and PSNR where they were scored, else the first three."""
    chosen = [next((name for name in metrics if base_name(name) == wanted), None) for wanted in _HEADLINE]
    found = tuple(name for name in chosen if name is not None)
    return found or tuple(metrics[:3])


def format_value(value: float | None, digits: int = 4) -> str:
    """A number with that many significant digits, at most four of them decimals.

    `∞` for identical images, a dash where nothing was measured.
    """
    if value is None or value != value:
        return "—"
    if abs(value) == math.inf:
        return "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e5:
        return f"{value:.{min(digits, 3) - 1}e}"
    decimals = min(max(0, digits - 1 - math.floor(math.log10(abs(value)))), 4)
    return f"{value:.{decimals}f}"


def headline_metric(study: Study) -> str:
    """The score that a budget is on where the user names none. Raises `SpecError` if nothing was scored."""
    for wanted in HEADLINES:
        for name in study.metrics:
            if name.partition("[")[0] == wanted:
                return name
    if not study.metrics:
        raise SpecError("the run holds no scores yet", "let the sweep run on")
    return study.metrics[0]


def find_metric(study: Study, name: str) -> str:
    """The scored metric of that name; `fid` finds `fid[lite0]`. Raises `SpecError` if there is none."""
    for known in study.metrics:
        if name in (known, known.partition("[")[0]):
            return known
    raise SpecError(f"no score named {name!r}", f"scored: {', '.join(study.metrics) or 'nothing yet'}")

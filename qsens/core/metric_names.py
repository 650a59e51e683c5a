"""How metrics are named, ordered and scaled in tables, figures and pages."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qsens.core.errors import SpecError
from qsens.core.trial import Study

if TYPE_CHECKING:
    pass


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

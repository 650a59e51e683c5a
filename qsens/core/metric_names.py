"""Names, order and scale of metrics wherever they are shown, and the ways to make their intervals."""

import inspect
import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import cast

from qsens.core.errors import PluginError, SpecError, name_hint
from qsens.core.interfaces import INTERVAL_METHOD, Metric, MetricFacts, Role
from qsens.core.plugins import load_plugin
from qsens.core.trial import Study

# Factor on the influence of Fréchet distances, after the corrections for few groups and for second order.
# From `benchmarks/coverage.py`: what the first-order error of a paired difference lacks on features of real
# generators (EfficientNet-Lite0, N below D), and the noise of the error itself. Linear scores need no factor.
FRECHET_CALIBRATION = 1.1
# What records hold for equal pictures, as JSON has no infinity: one pixel value in 150,000 off by one.
PSNR_CAP_DB = 100.0
Z95 = 1.959964
_SECOND_ORDER = f"{INTERVAL_METHOD}, second order from halves"
_FRECHET = f"{_SECOND_ORDER}, factor {FRECHET_CALIBRATION}"
_HEAVY_TAILS = f"{INTERVAL_METHOD} with degrees of freedom from the kurtosis"
# The metrics that come with qsens, by name: a run is read where its metrics cannot be imported, too.
BUILT_IN = {
    "fid": MetricFacts("FID", "{0} against real images", _FRECHET, Role.REAL_DISTANCE, is_frechet=True),
    "fid-fp32": MetricFacts(
        "FID-FP32",
        "FID{1} against the FP32 outputs",
        _FRECHET,
        Role.FP32_DISTANCE,
        is_frechet=True,
        of_fp32=0.0,
    ),
    "kid": MetricFacts("KID", interval_method=_SECOND_ORDER),
    "kid-fp32": MetricFacts(interval_method=_SECOND_ORDER, of_fp32=0.0),
    "cmmd": MetricFacts("CMMD", interval_method=_SECOND_ORDER),
    "cmmd-fp32": MetricFacts(interval_method=_SECOND_ORDER, of_fp32=0.0),
    "psnr": MetricFacts(
        "PSNR", "{0} against the FP32 outputs (dB)", _HEAVY_TAILS, Role.DECIBELS, of_fp32=math.inf
    ),
    "ssim": MetricFacts("SSIM", "{0} against the FP32 outputs", _HEAVY_TAILS, of_fp32=1.0),
    "jod": MetricFacts(
        "JOD", "{0} against the FP32 outputs (10: no visible difference)", _HEAVY_TAILS, of_fp32=10.0
    ),
    "flip": MetricFacts("FLIP", "{0} against the FP32 outputs", _HEAVY_TAILS, of_fp32=0.0),
    "flicker": MetricFacts(),
    "mouth-sync": MetricFacts(),
    "lse-d": MetricFacts("LSE-D"),
    "lse-c": MetricFacts("LSE-C"),
}


def facts_of(metric: str) -> MetricFacts:
    """The facts of a metric by the name of its scores; those of a plug-in's class where it is installed."""
    base = base_name(metric)
    if base in BUILT_IN:
        return BUILT_IN[base]
    try:
        plugin = load_plugin("metrics", base)
    except (SpecError, PluginError):
        return MetricFacts()
    states_facts = inspect.isclass(plugin) and Metric in plugin.__mro__
    return cast("type[Metric]", plugin).facts if states_facts else MetricFacts()


def role_of(metric: str) -> Role | None:
    """The use of a score when maps are chosen, or `None`.

    >>> role_of("fid[lite0]") is Role.REAL_DISTANCE
    True
    """
    return facts_of(metric).role


def first_of_role(metrics: Iterable[str], *roles: Role) -> str | None:
    """The first of the names whose score has the first of the roles that any has."""
    known = [(name, role_of(name)) for name in metrics]
    return next((name for role in roles for name, found in known if found is role), None)


def interval_method(metric: str) -> str:
    """The way in which this version makes the 95% interval of a score of that name.

    >>> interval_method("flicker")
    "influence function (by clip where there are clips), Student's t"
    """
    return facts_of(metric).interval_method


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


def shown_value(metric: str, value: float) -> float:
    """A score as tables and figures show it: the PSNR of equal pictures is infinite.

    >>> shown_value("psnr", 100.0), shown_value("psnr", 41.5), shown_value("fid[lite0]", 100.0)
    (inf, 41.5, 100.0)
    """
    return math.inf if value >= PSNR_CAP_DB and role_of(metric) is Role.DECIBELS else value


def base_name(metric: str) -> str:
    """The metric without its extractor: `fid` for `fid[lite0]`."""
    return metric.partition("[")[0]


def extractor_name(metric: str) -> str:
    """The extractor in square brackets, `lite0` for `fid[lite0]`, or an empty text."""
    return metric.partition("[")[2].rstrip("]")


def short_name(metric: str) -> str:
    """The metric as written in running text; the extractor always stays visible."""
    base = base_name(metric)
    return (facts_of(metric).short_name or base) + metric[len(base) :]


def axis_title(metric: str) -> str:
    """The metric with what it is measured against, for an axis or a heading."""
    return facts_of(metric).title.format(short_name(metric), metric[len(base_name(metric)) :])


def by_all_extractors(metrics: Iterable[str], name: str) -> tuple[str, ...]:
    """The score of that name by every extractor that it was scored with, in the order of `metrics`.

    >>> by_all_extractors(("fid[lite0]", "psnr", "fid[dinov2]"), "fid[dinov2]")
    ('fid[lite0]', 'fid[dinov2]')
    """
    return tuple(known for known in metrics if base_name(known) == base_name(name))


def headline_metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    """Distance to real images, distance to FP32 and PSNR where they were scored, else the first three.

    Of several extractors, the distances by each.
    """
    chosen = [first_of_role(metrics, role) for role in Role]
    found = [known for name in chosen if name is not None for known in by_all_extractors(metrics, name)]
    return tuple(found) or tuple(metrics[:3])


def format_value(value: float | None, digits: int = 4) -> str:
    """A number with that many significant digits, at most four of them decimals; small ones keep two.

    `∞` for identical images, a dash where nothing was measured.

    >>> format_value(26.631), format_value(0.0000772), format_value(123456.7)
    ('26.63', '0.000077', '123,457')
    """
    if value is None or value != value:
        return "—"
    if abs(value) == math.inf:
        return "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    if not 1e-7 <= abs(value) < 1e12:
        return f"{value:.{min(digits, 3) - 1}e}"
    if abs(value) >= 1e5:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        return f"{value:.{1 - math.floor(math.log10(abs(value)))}f}"
    decimals = min(max(0, digits - 1 - math.floor(math.log10(abs(value)))), 4)
    return f"{value:.{decimals}f}"


def headline_metric(study: Study) -> str:
    """The score that a budget is on where the user names none. Raises `SpecError` if nothing was scored."""
    if not study.metrics:
        raise SpecError("the run holds no scores yet", "let the sweep run on")
    return first_of_role(study.metrics, *Role) or study.metrics[0]


def find_metrics(study: Study, name: str) -> tuple[str, ...]:
    """The scored metrics that a name stands for: `fid` that of every extractor, `fid[lite0]` itself.

    Raises:
        SpecError: if there is none.
    """
    if name == base_name(name):
        found = by_all_extractors(study.metrics, name)
    else:
        found = (name,) if name in study.metrics else ()
    if not found:
        raise no_such_score(name, study.metrics)
    return found


def find_metric(study: Study, name: str) -> str:
    """The first metric that a name stands for. Raises `SpecError` if there is none."""
    return find_metrics(study, name)[0]


def no_such_score(name: str, known: Sequence[str]) -> SpecError:
    """The error for the name of a score that is none of those that were made."""
    return SpecError(
        f"no score named {name!r}", name_hint(name, known, f"scored: {', '.join(known) or 'nothing yet'}")
    )

"""Figure 3: FID against the boundary between INT8 and FP16 layers."""

from collections.abc import Iterator

from matplotlib.figure import Figure

from qsens.core.metric_names import base_name
from qsens.report.figures.boundary import boundary_figure
from qsens.report.figures.boundary_curve import BoundaryCurve, boundary_curve
from qsens.zoo.paper.published import UNKNOWN, published
from qsens.zoo.paper.runs import SweptRun

_PANELS = ("fid", "fid-fp32", "psnr")
AXIS = (
    "Boundary b cuts the layers in execution order (AE, FE0 to FE6, FD0 to FD6, OUT): on one curve layers "
    "before b run INT8 and the others FP16, on the other curve the reverse; b = 0 and b = N are the uniform "
    "maps. The paper does not describe its axis in words: this is our reading of it."
)
_MIX = "MIX of the paper (output block FP16)"


def boundary_curves(run: SweptRun) -> tuple[BoundaryCurve, ...]:
    """Panels of the figure: FID first, then the distance to FP32 and PSNR, the paper's mixed map marked."""
    mixed = run.preset_trial("paper-student")
    number = None if mixed is None else mixed.number
    found = {base_name(metric): metric for metric in run.study.metrics}
    curves = (boundary_curve(run.study, found[base], number) for base in _PANELS if base in found)
    return tuple(curve for curve in curves if curve is not None)


def figure3(run: SweptRun) -> Figure:
    """The boundary curves over the layers of the student."""
    title = "Figure 3. Quality against the boundary between INT8 and FP16 layers"
    return boundary_figure(boundary_curves(run), run.study.layers, title, chosen_label=_MIX)


def published_anchors() -> str:
    """The paper's FID of the uniform maps and of its mixed one, as a sentence."""
    maps = {"FP32": "student", "FP16": "student/FP16", "MIX": "student/MIX", "INT8": "student/INT8"}
    known = {name: published(subject, "fid") for name, subject in maps.items()}
    texts = (f"{name} {UNKNOWN if entry is None else entry.text}" for name, entry in known.items())
    return f"The paper's FID on LRS3: {', '.join(texts)}."


def boundary_records(run: SweptRun) -> Iterator[dict[str, object]]:
    """One record a point, for the CSV file; the paper's FID where it is known."""
    for curve in boundary_curves(run):
        for line in curve.lines:
            for point in line.points:
                yield {
                    "metric": curve.metric,
                    "direction": str(line.direction),
                    "boundary": point.boundary,
                    "value": point.value,
                    "95% +-": point.half_width,
                    "trial": point.trial,
                    "paper": _paper_value(run, curve.metric, point.trial),
                }


def _paper_value(run: SweptRun, metric: str, number: int) -> str | None:
    mixed = run.preset_trial("paper-student")
    if base_name(metric) != "fid" or mixed is None or mixed.number != number:
        return None
    known = published("student/MIX", "fid")
    return None if known is None else known.text

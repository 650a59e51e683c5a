"""All figures that a study has something to show in, with names for files and captions for pages."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from qsens.core.maps import anchor_trial
from qsens.core.metric_names import axis_title, headline_metrics, short_name
from qsens.core.precision import Precision
from qsens.core.trial import Study
from qsens.repair.effect import RepairEffect
from qsens.report.difference_maps import LEVELS, difference_of
from qsens.report.figures.boundary import boundary_figure
from qsens.report.figures.boundary_curve import BoundaryCurve, boundary_curve
from qsens.report.figures.ends import ends_figure, ends_grid
from qsens.report.figures.loop import loop_figure
from qsens.report.figures.repair import repair_figure
from qsens.report.figures.sensitivity import sensitivity_of
from qsens.report.figures.sensitivity_bars import sensitivity_figure
from qsens.report.figures.strip import image_strip, strip_choices, strip_figure
from qsens.report.figures.tradeoff import tradeoff, tradeoff_figure
from qsens.report.page_content import LoopContent
from qsens.run.floors import Floor
from qsens.selection.choose import PairedError, no_paired_error
from qsens.selection.timings import Timings
from qsens.selection.yardsticks import place_sentences

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class NamedFigure:
    """A figure, the stem of its files, a heading and what it shows. A detail is folded away on the page."""

    name: str
    heading: str
    caption: str
    figure: Figure
    is_detail: bool = False


@dataclass(frozen=True)
class Levels:
    """Horizontal lines by metric: what a distance shows where only the images differ, the worst allowed."""

    floors: Mapping[str, Floor] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)


def figures_of(
    study: Study,
    *,
    chosen: int | None = None,
    samples: "Mapping[int, Array] | None" = None,
    paired_error: PairedError = no_paired_error,
    timings: Sequence[Timings] = (),
    levels: Levels = Levels(),
) -> tuple[NamedFigure, ...]:
    """Every figure the study has data for, the most important first.

    `chosen` is the selected map's trial number; `samples` are pictures by trial number, uint8
    (K, 3, H, W), 0 to 255, RGB; `timings` are measured times, a figure each; `levels` are lines across
    the figures.
    """
    if not study.metrics:
        return ()
    return (
        *_boundary_figures(study, chosen, levels),
        *_ends_figures(study, chosen, levels),
        *_sensitivity_figures(study, paired_error, levels),
        *_tradeoff_figures(study, chosen, levels),
        *_latency_figures(study, chosen, timings, levels),
        *_strip_figures(study, chosen, samples or {}),
    )


def repair_figures(study: Study, effect: RepairEffect | None) -> Iterator[NamedFigure]:
    """The figure of a repair, where one changed anything."""
    if effect is not None and effect.layers:
        caption = (
            "Each layer alone in INT8, as it was calibrated and repaired. A layer whose mark stays high is "
            "one that repair of ranges and weights does not make good."
        )
        yield NamedFigure("repair", "What repair bought", caption, repair_figure(effect, study.layers))


def loop_figures(content: LoopContent, chosen: int | None) -> Iterator[NamedFigure]:
    """The figure of a loop, where the run has one and its maps were played."""
    if content.calls is not None and content.errors is not None:
        caption = (
            "A loop feeds back what the network made, and its damage with it: a line that climbs says that "
            "errors gather, one that stays level that the network forgets them."
        )
        figure = loop_figure(content.errors, content.calls.steps, chosen)
        yield NamedFigure("loop", "Along the loop", caption, figure)


def _boundary_figures(study: Study, chosen: int | None, levels: Levels) -> Iterator[NamedFigure]:
    headline = headline_metrics(study.metrics)
    rest = tuple(metric for metric in study.metrics if metric not in headline)
    for name, metrics in (("boundary", headline), ("boundary-more", rest)):
        found = [boundary_curve(study, metric, chosen, levels.floors.get(metric)) for metric in metrics]
        curves = [
            replace(curve, limit=levels.limits.get(curve.metric)) for curve in found if curve is not None
        ]
        if not any(curve.lines for curve in curves):
            continue
        title = f"Quality against the boundary between INT8 and {_float_sides(curves)} layers"
        caption = (
            "Each point is one engine: the network cut at that boundary, one side in INT8. A steep step "
            "marks a layer that does not survive INT8. Horizontal lines are the uniform maps (after Kim et "
            "al. 2023, Figure 3)."
        )
        figure = boundary_figure(curves, study.layers, title, answer=_in_familiar_terms(study, chosen))
        heading = "Where to cut" if name == "boundary" else f"Where to cut: {_joined(rest)}"
        yield NamedFigure(name, heading, caption, figure, is_detail=name != "boundary")


def _ends_figures(study: Study, chosen: int | None, levels: Levels) -> Iterator[NamedFigure]:
    found = [
        replace(grid, limit=levels.limits.get(metric))
        for metric in headline_metrics(study.metrics)
        if (grid := ends_grid(study, metric, chosen)) is not None
    ]
    if found:
        answer = _in_familiar_terms(study, chosen)
        title = "Quality with both ends of the network in float"
        caption = "Rows: layers kept in float at the start; columns: at the end; INT8 between them."
        yield NamedFigure("ends", "Both ends in float", caption, ends_figure(found, title, answer))


def _sensitivity_figures(study: Study, paired_error: PairedError, levels: Levels) -> Iterator[NamedFigure]:
    for place, metric in enumerate(headline_metrics(study.metrics)):
        found = sensitivity_of(study, metric, paired_error)
        if found is None:
            continue
        title = f"What each layer costs: {axis_title(metric)}"
        caption = (
            "Layers to keep in float show as long bars: worse where the layer goes to INT8, better where it "
            "alone stays in float. A bar beyond the limit line does that by itself."
        )
        if found.is_from_steps:
            caption += " Read off the boundary curve; the one-at-a-time strategy measures single layers."
        if found.screen_images is not None:
            caption += (
                f" Bars on {found.screen_images} images are of maps that the search screened: compare them "
                "with each other only."
            )
        figure = sensitivity_figure(replace(found, limit=levels.limits.get(metric)), title)
        heading = f"Sensitivity of single layers: {short_name(metric)}"
        yield NamedFigure(f"sensitivity-{file_stem(metric)}", heading, caption, figure, is_detail=place > 1)


def _tradeoff_figures(study: Study, chosen: int | None, levels: Levels) -> Iterator[NamedFigure]:
    found = [
        replace(entry, limit=levels.limits.get(metric))
        for metric in headline_metrics(study.metrics)
        if (entry := tradeoff(study, metric, chosen, floor=levels.floors.get(metric))) is not None
    ]
    if found:
        title = "Quality against how much of the network runs in INT8"
        caption = "Maps on the front are worth choosing from: no other has both more INT8 and a better score."
        figure = tradeoff_figure(found, title, _in_familiar_terms(study, chosen))
        yield NamedFigure("tradeoff", "What more INT8 costs", caption, figure)


def _latency_figures(
    study: Study, chosen: int | None, timings: Sequence[Timings], levels: Levels
) -> Iterator[NamedFigure]:
    for entry in timings:
        found = [
            replace(data, limit=levels.limits.get(metric))
            for metric in headline_metrics(study.metrics)
            if (data := tradeoff(study, metric, chosen, entry)) is not None
        ]
        if not found:
            continue
        heading = f"Quality against time on {entry.place}"
        caption = (
            "Maps on the front are worth choosing from: no other is both faster and better scored. Choose by "
            f"time: qsens select RUN --latency {entry.table.short_path} --budget X."
        )
        is_detail = entry.batch != entry.table.batches[0]
        figure = tradeoff_figure(found, "Quality against measured time", _in_familiar_terms(study, chosen))
        yield NamedFigure(f"latency-{file_stem(entry.place)}", heading, caption, figure, is_detail=is_detail)


def _strip_figures(study: Study, chosen: int | None, samples: "Mapping[int, Array]") -> Iterator[NamedFigure]:
    baseline = anchor_trial(study, Precision.FP32)
    choices = strip_choices(study, headline_metrics(study.metrics)[0], chosen)
    number = None if baseline is None else baseline.number
    strip = image_strip(choices, samples, number, difference_of(study))
    if strip is not None:
        title = "The same inputs under several maps"
        seen = "the error" if strip.difference is LEVELS else f"{strip.difference.name}'s error"
        caption = f"Every second row is {seen} against FP32, amplified x{strip.amplification}."
        yield NamedFigure("samples", "Pictures", caption, strip_figure(strip, title))


def _in_familiar_terms(study: Study, chosen: int | None) -> str:
    """Sentences on what INT8 everywhere and the chosen map cost in familiar alterations; empty without."""
    int8 = anchor_trial(study, Precision.INT8)
    map_of_choice = next((trial for trial in study.trials if trial.number == chosen), None)
    others = [] if map_of_choice is int8 else [("The chosen map", map_of_choice)]
    return " ".join(place_sentences(study, [("INT8 everywhere", int8), *others]))


def _joined(metrics: Sequence[str]) -> str:
    return ", ".join(map(short_name, metrics))


def _float_sides(curves: Sequence[BoundaryCurve]) -> str:
    sides = {line.float_precision.upper() for curve in curves for line in curve.lines}
    return " or ".join(sorted(sides))


def file_stem(metric: str) -> str:
    """The metric as part of a file name: `fid-lite0` for `fid[lite0]`."""
    return re.sub(r"[^a-z0-9]+", "-", metric.lower()).strip("-")

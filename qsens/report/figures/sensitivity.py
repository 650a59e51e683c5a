"""Sensitivity bars: what each layer or block does to a metric, in one panel for each kind of evidence."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter

from qsens.core.maps import Direction, Isolation, IsolationKind, anchor_trial, unit_of
from qsens.core.metric_names import Z95, axis_title, short_name
from qsens.core.precision import Precision
from qsens.core.trial import Score, Study
from qsens.report.comparable import (
    Scored,
    error_to_fp32,
    is_against_fp32,
    scored_trials,
    screened_trials,
)
from qsens.report.figures.block_axis import layer_titles
from qsens.report.figures.boundary_curve import BROAD_SPAN, BoundaryLine, boundary_lines
from qsens.report.figures.style import (
    BLUE,
    GRID,
    INK,
    LIMIT,
    LIMIT_LOOK,
    SLATE,
    SMALL,
    TEXT,
    add_header,
    dress,
    new_figure,
    plain_number,
)
from qsens.report.figures.yardstick_axis import YardstickTick, draw_top_ticks, yardstick_effects
from qsens.selection.choose import PairedError, no_paired_error

STEP_ORIGINS = {
    Direction.INT8_FIRST: "joins the INT8 layers before it",
    Direction.FLOAT_FIRST: "joins the INT8 layers after it",
}
MOST_ROWS = 100
# As in the boundary figure: what INT8 does in one colour, what float does in another.
_COLOURS = {
    str(IsolationKind.ALL_BUT_INT8): SLATE,
    STEP_ORIGINS[Direction.FLOAT_FIRST]: SLATE,
}
_Isolated = tuple[Scored, Isolation]


@dataclass(frozen=True)
class Effect:
    """The effect of one unit on a metric, in the metric's own unit.

    `origin` says what `value` is: the map with only this unit in INT8 minus FP32; the map with only this
    unit in float minus all-INT8; or the step of a boundary curve at which the unit joins the INT8 side.
    `is_paired` says that `standard_error` is that of the same inputs, not of two taken as independent.
    `images` is how many the scores were made on; where `is_screen`, these are the few of a screen, and the
    effect must only be compared with others there.
    """

    unit: str
    name: str
    start: int
    origin: str
    value: float
    standard_error: float | None
    is_paired: bool
    trial: int
    images: int
    is_screen: bool = False

    @property
    def label(self) -> str:
        """The origin, and the images of a screen: effects that share a label can be compared."""
        return f"{self.origin}, on {self.images} images" if self.is_screen else self.origin


@dataclass(frozen=True)
class Sensitivity:
    """Effects of one metric, in execution order within each label.

    `yardsticks`: what alterations of FP32's own pictures change the score by. `starts`: the score, by
    label, that effects are counted from, on the scale of all images; none where that is no single score.
    `limit`: the worst acceptable score. `titles`: short names of layers.
    """

    metric: str
    lower_is_better: bool
    is_from_steps: bool
    effects: tuple[Effect, ...]
    yardsticks: tuple[YardstickTick, ...] = ()
    starts: Mapping[str, float] = field(default_factory=dict)
    limit: float | None = None
    titles: Mapping[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order in which they appear."""
        return tuple(dict.fromkeys(effect.label for effect in self.effects))

    @property
    def screen_images(self) -> int | None:
        """The number of images of a screen; `None` where no effect is from a screen."""
        return next((effect.images for effect in self.effects if effect.is_screen), None)

    def limit_of(self, label: str) -> float | None:
        """The effect that takes the score to its limit, for effects of one label."""
        start = self.starts.get(label)
        return None if self.limit is None or start is None else self.limit - start

    def of(self, label: str) -> tuple[Effect, ...]:
        """The effects of one label."""
        return tuple(effect for effect in self.effects if effect.label == label)


def sensitivity_of(
    study: Study, metric: str, paired_error: PairedError = no_paired_error
) -> Sensitivity | None:
    """Effects of single units on `metric`; `None` where no map says anything about a single unit.

    A boundary sweep isolates its end layers by the way, so isolating maps count only if one of them
    singles out a unit inside the network. Where a unit was isolated on the images of a screen alone, the
    screens give a set of effects of their own, of every unit that was isolated there.
    """
    scored, screened = scored_trials(study, metric), screened_trials(study, metric)
    isolated, isolated_there = _isolated(study, scored), _isolated(study, screened)
    if _are_known(isolated_there, isolated):
        isolated_there = []
    has_inner = any(not isolation.is_at_an_end for _, isolation in (*isolated, *isolated_there))
    if has_inner:
        effects = [
            *_isolated_effects(study, isolated, scored, paired_error),
            # evidence that pairs two trials is of all images
            *_isolated_effects(study, isolated_there, screened, no_paired_error),
        ]
    else:
        effects = [
            effect
            for line in boundary_lines(study, metric)
            for effect in _steps(study, metric, line, paired_error)
        ]
    if not effects:
        return None
    kinds = [*map(str, IsolationKind), *STEP_ORIGINS.values()]
    effects.sort(key=lambda effect: (kinds.index(effect.origin), effect.is_screen, effect.start, effect.unit))
    record = (*scored, *screened)[0].record
    return Sensitivity(
        metric,
        record.lower_is_better,
        not has_inner,
        tuple(effects),
        yardstick_effects(study, metric),
        _starts_of(study, effects, scored, screened) if has_inner else {},
        titles=layer_titles(study.layers),
    )


def _starts_of(
    study: Study, effects: Iterable[Effect], scored: Sequence[Scored], screened: Sequence[Scored]
) -> dict[str, float]:
    """The score that the effects of each label are counted from; a screen's, moved by FP32's on all."""
    full, there = _uniform(study, scored), _uniform(study, screened)
    whole, few = (found[IsolationKind.ONLY_INT8] for found in (full, there))
    shift = 0.0 if whole is None or few is None else whole.value - few.value
    starts = {}
    for effect in effects:
        kind = IsolationKind(effect.origin)
        start = there[kind] if effect.is_screen else full[kind]
        value = None if start is None else start.value + (shift if effect.is_screen else 0.0)
        if value is not None and math.isfinite(value):
            starts[effect.label] = value
    return starts


def _isolated(study: Study, entries: Iterable[Scored]) -> list[_Isolated]:
    return [
        (entry, isolation)
        for entry in entries
        if entry.trial.applied is not None and math.isfinite(entry.value)
        for isolation in study.shapes.isolations_of(entry.trial.applied)
    ]


def _are_known(some: Sequence[_Isolated], others: Sequence[_Isolated]) -> bool:
    """Whether every unit of `some` is singled out in the same way by one of `others`."""
    found = {(isolation.kind, isolation.unit, isolation.name) for _, isolation in others}
    return all((isolation.kind, isolation.unit, isolation.name) in found for _, isolation in some)


def _isolated_effects(
    study: Study, isolated: Sequence[_Isolated], entries: Sequence[Scored], paired_error: PairedError
) -> list[Effect]:
    """Effects of isolating maps, against the uniform maps among `entries`, which share their images."""
    starts = _uniform(study, entries)
    found = []
    for entry, isolation in isolated:
        start = starts[isolation.kind]
        if start is not None and math.isfinite(start.value):
            found.append(_isolated_effect(study, (start, entry), isolation, paired_error))
    return found


def _uniform(study: Study, entries: Sequence[Scored]) -> dict[IsolationKind, Scored | None]:
    """The uniform map that each kind of isolation is counted from, as it is among `entries`."""
    return {
        kind: next((entry for entry in entries if entry.trial is anchor_trial(study, precision)), None)
        for kind, precision in (
            (IsolationKind.ONLY_INT8, Precision.FP32),
            (IsolationKind.ALL_BUT_INT8, Precision.INT8),
        )
    }


def _isolated_effect(
    study: Study, pair: tuple[Scored, Scored], isolation: Isolation, paired_error: PairedError
) -> Effect:
    start, entry = pair
    error, is_paired = _error_between(study, pair, paired_error)
    if isolation.kind is IsolationKind.ONLY_INT8 and not is_paired:
        error, is_paired = _own_error(study, entry.record)
    place = (isolation.unit, isolation.name, isolation.start, str(isolation.kind))
    return Effect(
        *place,
        entry.value - start.value,
        error,
        is_paired,
        entry.trial.number,
        entry.record.images,
        is_screen=entry.is_screen,
    )


def _steps(study: Study, metric: str, line: BoundaryLine, paired_error: PairedError) -> list[Effect]:
    """The change of the score at each cut, signed as if the unit joined the INT8 side."""
    entries = {entry.trial.number: entry for entry in scored_trials(study, metric)}
    found = []
    for left, right in pairwise(line.points):
        members = study.layers[left.boundary : right.boundary]
        unit, name = unit_of(members, study.layers) or ("range", f"{members[0].name} … {members[-1].name}")
        before, after = (left, right) if line.direction is Direction.INT8_FIRST else (right, left)
        pair = (entries[before.trial], entries[after.trial])
        error, is_paired = _error_between(study, pair, paired_error)
        place = (unit, name, left.boundary, STEP_ORIGINS[line.direction])
        value, images = after.value - before.value, pair[1].record.images
        found.append(Effect(*place, value, error, is_paired, after.trial, images))
    return found


def _error_between(
    study: Study, pair: tuple[Scored, Scored], paired_error: PairedError
) -> tuple[float | None, bool]:
    """Standard error of the difference of two trials; as if independent where nothing better is known."""
    one, other = pair
    exact = paired_error(one.record.metric, one.trial, other.trial)
    if exact is not None:
        return exact, True
    errors = [_own_error(study, entry.record)[0] for entry in pair]
    known = [error for error in errors if error is not None]
    return (math.hypot(*known) if len(known) == 2 else None), False


def _own_error(study: Study, score: Score) -> tuple[float | None, bool]:
    return error_to_fp32(score, is_difference=is_against_fp32(study, score.metric))


def sensitivity_figure(sensitivity: Sensitivity, title: str, *, sort: bool = False) -> Figure:
    """Horizontal bars with 95% intervals, units in execution order, or the worst first with `sort`.

    Of more than `MOST_ROWS` units, those with the largest effects.
    """
    units = len(_rows(sensitivity, sort=sort))
    sensitivity = _with_largest(sensitivity)
    names = _rows(sensitivity, sort=sort)
    panels = len(sensitivity.labels)
    figure = new_figure(3.4 + 3.6 * panels, 1.9 + 0.21 * max(len(names), 5))
    axes = list(figure.subplots(1, panels, sharex=True, sharey=True, squeeze=False)[0])
    _scale_values(axes, [abs(effect.value) for effect in sensitivity.effects])
    for panel, label in zip(axes, sensitivity.labels, strict=True):
        _draw_bars(panel, sensitivity, label, names)
    for panel, label in zip(axes, sensitivity.labels, strict=True):
        _draw_levels(panel, sensitivity, label)
    axes[0].set_yticks(range(len(names)), [_row_title(sensitivity, *row) for row in names])
    for panel in axes[1:]:
        panel.yaxis.set_visible(False)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    left_out = f"The {len(names)} of {units} with the largest effects. " if units > len(names) else ""
    add_header(figure, title, {}, left_out + _note(sensitivity, axes))
    return figure


def _with_largest(sensitivity: Sensitivity) -> Sensitivity:
    """Only the `MOST_ROWS` units whose effects are largest, as shares of the largest of the same label."""
    largest = {
        label: max(abs(effect.value) for effect in sensitivity.of(label)) for label in sensitivity.labels
    }
    shares: dict[tuple[str, str], float] = {}
    for effect in sensitivity.effects:
        share = abs(effect.value) / (largest[effect.label] or 1.0)
        unit = (effect.unit, effect.name)
        shares[unit] = max(share, shares.get(unit, 0.0))
    kept = set(sorted(shares, key=lambda unit: -shares[unit])[:MOST_ROWS])
    effects = tuple(effect for effect in sensitivity.effects if (effect.unit, effect.name) in kept)
    return replace(sensitivity, effects=effects)


def _rows(sensitivity: Sensitivity, *, sort: bool) -> list[tuple[str, str]]:
    effects = sorted(sensitivity.effects, key=lambda effect: effect.start)
    if sort:
        first = sensitivity.effects[0]
        hurts_upwards = sensitivity.lower_is_better is (first.origin != IsolationKind.ALL_BUT_INT8)
        sign = -1.0 if hurts_upwards else 1.0
        effects = sorted(effects, key=lambda effect: (effect.label != first.label, sign * effect.value))
    return list(dict.fromkeys((effect.unit, effect.name) for effect in effects))


def _row_title(sensitivity: Sensitivity, unit: str, name: str) -> str:
    if unit == "block":
        return f"{name}, all of it"
    return " … ".join(sensitivity.titles.get(part, part) for part in name.split(" … "))


def _draw_bars(axes: Axes, sensitivity: Sensitivity, label: str, names: Sequence[tuple[str, str]]) -> None:
    dress(axes)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=GRID, linewidth=0.6)
    effects = sensitivity.of(label)
    axes.barh(
        [names.index((effect.unit, effect.name)) for effect in effects],
        [effect.value for effect in effects],
        xerr=[Z95 * (effect.standard_error or 0.0) for effect in effects],
        height=0.68,
        color=_COLOURS.get(effects[0].origin, BLUE),
        error_kw={"ecolor": INK, "elinewidth": 0.9, "capsize": 2.0, "alpha": 0.7},
        zorder=3,
    )
    axes.axvline(0.0, color=INK, linewidth=1.0, zorder=4)
    axes.tick_params(axis="y", length=0)
    images = f", on {effects[0].images} images" if effects[0].is_screen else ""
    axes.set_title(f"{_panel_title(effects[0].origin)}{images}", fontsize=TEXT, loc="left", color=INK)
    axes.set_xlabel(_axis_label(sensitivity, effects[0]), fontsize=TEXT - 0.5, color=INK)


def _draw_levels(axes: Axes, sensitivity: Sensitivity, label: str) -> None:
    """Yardsticks and the limit, where they lie within the values that all panels have."""
    if sensitivity.of(label)[0].origin != IsolationKind.ALL_BUT_INT8:
        draw_top_ticks(axes, sensitivity.yardsticks)
    limit = sensitivity.limit_of(label)
    low, high = axes.get_xlim()
    if limit is not None and low <= limit <= high:
        colour, style = LIMIT_LOOK
        axes.axvline(limit, color=colour, linewidth=1.3, linestyle=style, zorder=4)
        name = axes.annotate(
            LIMIT,
            xy=(limit, 0.5),
            xycoords=("data", "axes fraction"),
            rotation=90,
            ha="right",
            va="center",
            fontsize=SMALL,
            color=colour,
            zorder=5,
        )
        name.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _scale_values(panels: Sequence[Axes], sizes: Sequence[float]) -> None:
    """One scale for all: logarithmic beyond the typical effect where a few units would dwarf the rest."""
    panels[0].margins(x=0.08)
    largest = max(sizes)
    typical = max(statistics.median(sizes), largest * 1e-3)
    if largest > BROAD_SPAN * typical > 0:
        threshold = 10.0 ** math.ceil(math.log10(typical))
        panels[0].set_xscale("symlog", linthresh=threshold)
        panels[0].xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
        for panel in panels:
            panel.axvspan(-threshold, threshold, color="#f3f3f1", zorder=-1, linewidth=0)


def _panel_title(origin: str) -> str:
    titles = {
        str(IsolationKind.ONLY_INT8): "only this in INT8, the rest in float",
        str(IsolationKind.ALL_BUT_INT8): "only this in float, the rest in INT8",
    }
    return titles.get(origin, origin)


def _axis_label(sensitivity: Sensitivity, effect: Effect) -> str:
    name = short_name(sensitivity.metric)
    if sensitivity.is_from_steps:
        return f"change of {name}"
    start = "all INT8" if effect.origin == IsolationKind.ALL_BUT_INT8 else "FP32"
    return f"{name} minus that of {start}"


def _note(sensitivity: Sensitivity, panels: Sequence[Axes]) -> str:
    worse = "right" if sensitivity.lower_is_better else "left"
    text = f"{axis_title(sensitivity.metric)}; bars to the {worse} are worse. "
    if sensitivity.is_from_steps:
        text += "No map isolates single layers: these are steps between neighbouring points of the curve. "
    if any(panel.get_xscale() == "symlog" for panel in panels):
        text += "Linear within the grey band, logarithmic beyond it. "
    if sensitivity.screen_images is not None:
        text += f"On {sensitivity.screen_images} images: scored on a screen's images only. "
    if sensitivity.yardsticks:
        text += "Dotted: what alterations of FP32's own pictures cost. "
    errors = [effect.is_paired for effect in sensitivity.effects if effect.standard_error is not None]
    if not errors:
        return text + "No standard errors were measured."
    if all(errors):
        return text + "Bars: 95% interval, paired over the same inputs."
    return text + "Bars: 95% interval; too wide where two maps had to be taken as independent."

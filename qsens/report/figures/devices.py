"""The figure of devices: times of the same maps, and speed-ups over FP32 (Kim et al. 2023, Figure 5)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from textwrap import wrap
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from qsens.core.csv_text import csv_of_records
from qsens.core.errors import SpecError
from qsens.core.files import write_atomically, write_error
from qsens.report.figures.style import (
    BLUE,
    FAINT,
    GREEN,
    GRID,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    SMALL,
    TEAL,
    TEXT,
    add_header,
    dress,
    new_figure,
    render_png,
    render_svg,
)
from qsens.selection.timings import LatencyTable, MeasuredMap

TABLE_STEM = "devices"
# The maps that every bench names alike, in the order of the paper's table.
LABELS = ("FP32", "FP16", "MIX", "INT8")
_COLOURS = {"FP32": INK, "FP16": GREEN, "MIX": ORANGE, "INT8": PURPLE}
_OTHERS = (BLUE, TEAL, SKY, FAINT)
_BAR = 0.21  # inches
_GAP = 0.32
_NAME = 26  # letters in a line of a device's name


@dataclass(frozen=True)
class DeviceRow:
    """One map on one device. `images_per_s` counts the images of a batch; `speed_up` is over FP32 there.

    `energy_mj` is for one image, `mismatches` counts layers that run in something else than expected.
    """

    label: str
    ms: float
    half_width_ms: float
    images_per_s: float
    speed_up: float | None
    size_bytes: int
    energy_mj: float | None
    mismatches: int


@dataclass(frozen=True)
class DeviceGroup:
    """The rows of one file at one batch size: a generator on a device with a runtime."""

    device: str
    runtime: str
    generator: str
    batch: int
    rows: tuple[DeviceRow, ...]

    @property
    def place(self) -> str:
        """Device and runtime, for people."""
        return f"{self.device}, {self.runtime}"


def device_groups(tables: Iterable[LatencyTable], *, all_maps: bool = False) -> tuple[DeviceGroup, ...]:
    """A group for each file and batch size, in the order of the files.

    Files are not merged: maps that were not measured in turn are not compared by a speed-up. Without
    `all_maps` only FP32, FP16, MIX and INT8 are shown where a file has any of them.

    Raises:
        SpecError: where nothing was measured.
    """
    groups = tuple(
        DeviceGroup(
            table.device_name,
            table.runtime_text,
            table.generator,
            batch,
            _rows(
                {entry.label: entry for entry in table.measurements if entry.batch == batch},
                all_maps=all_maps,
            ),
        )
        for table in tables
        for batch in table.batches
    )
    if not any(group.rows for group in groups):
        raise SpecError("the files hold no measurements", "measure with: qsens bench RUN --latency-json FILE")
    return groups


def shown_labels(groups: Sequence[DeviceGroup]) -> tuple[str, ...]:
    """Labels of all groups: those of the paper in its order, then the others."""
    found = dict.fromkeys(row.label for group in groups for row in group.rows)
    return (
        *(label for label in LABELS if label in found),
        *(label for label in found if label not in LABELS),
    )


def _rows(entries: dict[str, MeasuredMap], *, all_maps: bool) -> tuple[DeviceRow, ...]:
    named = [entries[label] for label in LABELS if label in entries]
    others = [entry for label, entry in entries.items() if label not in LABELS]
    fp32 = entries.get("FP32")
    return tuple(_row(entry, fp32) for entry in ([*named, *others] if all_maps or not named else named))


def _row(entry: MeasuredMap, fp32: MeasuredMap | None) -> DeviceRow:
    return DeviceRow(
        label=entry.label,
        ms=entry.ms,
        half_width_ms=entry.half_width_ms,
        images_per_s=1000.0 * entry.batch / entry.ms if entry.ms > 0 else float("inf"),
        speed_up=fp32.ms / entry.ms if fp32 is not None and entry.ms > 0 else None,
        size_bytes=entry.size_bytes,
        energy_mj=None if entry.energy_mj is None else entry.energy_mj / entry.batch,
        mismatches=len(entry.mismatches),
    )


def devices_figure(groups: Sequence[DeviceGroup]) -> Figure:
    """Two panels for each generator and batch size: milliseconds an image, and speed-up over FP32."""
    panels = [
        (key, list(members))
        for key, members in groupby(
            sorted(groups, key=lambda group: (group.generator, group.batch)),
            key=lambda group: (group.generator, group.batch),
        )
    ]
    heights = [sum(_GAP + _BAR * len(group.rows) for group in members) for _, members in panels]
    figure = new_figure(9.2, sum(heights) + 0.75 * len(panels) + 1.0)
    axes = figure.subplots(len(panels), 2, squeeze=False, height_ratios=heights)
    colours = _colours(groups)
    for ((generator, batch), members), (left, right) in zip(panels, axes, strict=True):
        _draw(left, members, colours, batch=batch)
        _draw_speed_up(right, members, colours)
        left.set_title(f"{generator}, batch {batch}", fontsize=TEXT, loc="left", color=INK)
        left.set_xlabel("ms an image (less is better)", fontsize=TEXT, color=INK)
        right.set_xlabel("times as fast as FP32", fontsize=TEXT, color=INK)
    handles: dict[str, Artist] = {label: Patch(color=colour) for label, colour in colours.items()}
    note = "Median of repeated runs. Bars with ends: 95% interval of the median."
    add_header(figure, "The same maps on several devices", handles, note)
    return figure


def _colours(groups: Sequence[DeviceGroup]) -> dict[str, str]:
    others = iter(_OTHERS * (1 + len(shown_labels(groups))))
    return {label: _COLOURS.get(label) or next(others) for label in shown_labels(groups)}


def _places(members: Sequence[DeviceGroup]) -> list[tuple[DeviceGroup, DeviceRow, float]]:
    """Every bar from top to bottom with its place in inches below the top."""
    found, below = [], 0.0
    for group in members:
        below += _GAP
        for row in group.rows:
            found.append((group, row, below))
            below += _BAR
    return found


def _draw(axes: Axes, members: Sequence[DeviceGroup], colours: Mapping[str, str], *, batch: int) -> None:
    bars = _places(members)
    largest = max((row.ms + row.half_width_ms) / batch for _, row, _ in bars)
    for _, row, place in bars:
        ms, half = row.ms / batch, row.half_width_ms / batch
        axes.barh(place, ms, height=0.82 * _BAR, color=colours[row.label])
        axes.errorbar(ms, place, xerr=half, color=FAINT, elinewidth=0.9, capsize=1.8)
        axes.text(ms + half + 0.015 * largest, place, _digits(ms), va="center", fontsize=SMALL, color=INK)
    axes.set_xlim(0, 1.14 * largest)
    _name_devices(axes, members, bars)


def _digits(value: float) -> str:
    """Three significant digits, zeros at the end included."""
    return f"{value:#.3g}".rstrip(".")


def _draw_speed_up(axes: Axes, members: Sequence[DeviceGroup], colours: Mapping[str, str]) -> None:
    bars = _places(members)
    known = [row.speed_up for _, row, _ in bars if row.speed_up is not None]
    largest = max([1.0, *known])
    for _, row, place in bars:
        if row.speed_up is None:
            axes.text(0.02 * largest, place, "FP32 not measured", va="center", fontsize=SMALL, color=FAINT)
            continue
        axes.barh(place, row.speed_up, height=0.82 * _BAR, color=colours[row.label])
        text = f"{row.speed_up:.2f}x"
        axes.text(row.speed_up + 0.015 * largest, place, text, va="center", fontsize=SMALL, color=INK)
    axes.axvline(1.0, color=GRID, linewidth=1.0, zorder=0)
    axes.set_xlim(0, 1.2 * largest)
    _name_devices(axes, members, bars)
    axes.set_yticklabels([])


def _name_devices(
    axes: Axes, members: Sequence[DeviceGroup], bars: Sequence[tuple[DeviceGroup, DeviceRow, float]]
) -> None:
    dress(axes)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=GRID, linewidth=0.6)
    middles = [[place for owner, _, place in bars if owner is group] for group in members]
    axes.set_yticks([sum(places) / len(places) for places in middles])
    axes.set_yticklabels(["\n".join([*wrap(group.device, _NAME), group.runtime]) for group in members])
    axes.tick_params(axis="y", length=0)
    last = bars[-1][2]
    axes.set_ylim(last + 0.6 * _GAP, 0.4 * _GAP)


def device_records(groups: Sequence[DeviceGroup]) -> list[dict[str, Any]]:
    """One plain record a map and device, for JSON and CSV."""
    return [
        {
            "device": group.device,
            "runtime": group.runtime,
            "generator": group.generator,
            "batch": group.batch,
            **asdict(row),
        }
        for group in groups
        for row in group.rows
    ]


def write_devices(out: Path, groups: Sequence[DeviceGroup]) -> None:
    """Write the table and the figure to a folder. Raises `RunFolderError` if that is impossible."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(out, error) from error
    text = csv_of_records(device_records(groups))
    figure = devices_figure(groups)
    write_atomically(out / f"{TABLE_STEM}.csv", text.encode())
    write_atomically(out / f"{TABLE_STEM}.png", render_png(figure))
    write_atomically(out / f"{TABLE_STEM}.svg", render_svg(figure, TABLE_STEM))

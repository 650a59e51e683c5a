"""`qsens devices`: the same maps on several devices, from their latency files."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qsens.cli.text import echo_json, ms_text, text_table
from qsens.core.csv_text import csv_of_records
from qsens.core.errors import SpecError
from qsens.selection.timings import read_latency_table

if TYPE_CHECKING:
    from qsens.report.figures.devices import DeviceGroup

STEM = "devices"


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--all-maps", is_flag=True, help="Show single trials too, not FP32, FP16, MIX and INT8 alone.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write table and figure there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def devices(files: tuple[Path, ...], *, all_maps: bool, out: Path | None, as_json: bool) -> None:
    """Compare devices by the latency files that `qsens bench RUN --latency-json FILE` wrote on them.

    Prints milliseconds, images a second and the speed-up over FP32, as Table 4 of Kim et al. 2023 does, and
    with --out draws them (its Figure 5). MIX is the map that `qsens select` chose.
    """
    from qsens.report.figures.devices import device_groups  # loads matplotlib

    groups = device_groups([read_latency_table(path) for path in files], all_maps=all_maps)
    if not any(group.rows for group in groups):
        raise SpecError("the files hold no measurements", "measure with: qsens bench RUN --latency-json FILE")
    if out is not None:
        _write(out, groups)
    if as_json:
        echo_json(device_records(groups))
        return
    click.echo(devices_table(groups))
    if out is not None:
        click.echo(f"\nWritten: {out / STEM}.csv, .png and .svg")


def devices_table(groups: "Sequence[DeviceGroup]") -> str:
    """One row a map; device, runtime and generator stand in the first row of their group."""
    has_energy = any(row.energy_mj is not None for group in groups for row in group.rows)
    header = ["device", "runtime", "generator", "batch", "map", "ms", "images/s", "speed-up", "size MB"]
    header += ["mJ/image"] if has_energy else []
    header += ["mismatches"]
    rows = []
    for group in groups:
        named = [group.device, group.runtime, group.generator, str(group.batch)]
        for place, row in enumerate(group.rows):
            speed_up = "-" if row.speed_up is None else f"{row.speed_up:.2f}x"
            cells = [row.label, ms_text(row.ms, row.half_width_ms), f"{row.images_per_s:.1f}", speed_up]
            cells += [f"{row.size_bytes / 1e6:.2f}"]
            cells += ["-" if row.energy_mj is None else f"{row.energy_mj:.3g}"] if has_energy else []
            rows.append([*(named if place == 0 else [""] * 4), *cells, str(row.mismatches)])
    table = text_table(header, rows, right=(3, *range(5, len(header))))
    return f"{table}\n\n±: 95% interval of the median. Speed-up: over FP32 of the same file."


def device_records(groups: "Sequence[DeviceGroup]") -> list[dict[str, Any]]:
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


def _write(out: Path, groups: "Sequence[DeviceGroup]") -> None:
    # matplotlib takes a second to load
    from qsens.core.files import write_atomically, write_error
    from qsens.report.figures.devices import devices_figure
    from qsens.report.figures.style import render_png, render_svg

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(out, error) from error
    text = csv_of_records(device_records(groups))
    figure = devices_figure(groups)
    write_atomically(out / f"{STEM}.csv", text.encode())
    write_atomically(out / f"{STEM}.png", render_png(figure))
    write_atomically(out / f"{STEM}.svg", render_svg(figure, STEM))

"""`qsens devices`: the same maps on several devices, from their latency files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qsens.cli.text import echo_json, ms_text, text_table
from qsens.selection.timings import read_latency_table

if TYPE_CHECKING:
    from qsens.report.figures.devices import DeviceGroup


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
    from qsens.report.figures.devices import (  # loads matplotlib
        TABLE_STEM,
        device_groups,
        device_records,
        write_devices,
    )

    groups = device_groups([read_latency_table(path) for path in files], all_maps=all_maps)
    if out is not None:
        write_devices(out, groups)
    if as_json:
        echo_json(device_records(groups))
        return
    click.echo(devices_table(groups))
    if out is not None:
        click.echo(f"\nWritten: {out / TABLE_STEM}.csv, .png and .svg")


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

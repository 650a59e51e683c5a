"""`qsens bench`: latency, memory, size and energy of maps on this machine, and tables of them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qsens.cli.option_values import PluginOption, parse_plugin_option
from qsens.cli.options import gathered, whole_number
from qsens.cli.text import echo_json, ms_text, text_table
from qsens.core.errors import SpecError
from qsens.core.precision import Precision, PrecisionMap
from qsens.python.progress import ProgressLine
from qsens.run.loop import StoppedError

if TYPE_CHECKING:
    from qsens.deploy.bench_folder import BenchedFolder

UNTOLD = "-"
Entry = Mapping[str, Any]
DEFAULT_REPEATS = 50


def device_text(document: Entry) -> str:
    """The machine that the numbers were measured on."""
    device, runtime = document["device"], document["runtime"]
    gpu = device.get("gpu") or {}
    more = [
        f"{device['cores']} cores" if device.get("cores") else None,
        f"driver {gpu['driver']}" if gpu.get("driver") else None,
        f"power mode {device['power_mode']}" if device.get("power_mode") else None,
        f"governor {device['governor']}" if device.get("governor") else None,
        f"inputs: {runtime['inputs']}" if runtime.get("inputs") else None,
    ]
    facts = ", ".join(part for part in more if part)
    return f"{document['generator']} on {device['name']}, {runtime['name']} {runtime['version']}" + (
        f" ({facts})" if facts else ""
    )


def bench_table(document: Entry, macs: Mapping[str, int]) -> str:
    """One row a map and batch size; columns of what no runtime told are left out."""
    entries = document["measurements"]
    has_memory = any(entry["peak_memory_bytes"] is not None for entry in entries)
    has_energy = any(entry["energy_mj"] is not None for entry in entries)
    header = ["map", "layers run in", "INT8 MACs", "batch", "ms", "ms/image", "speed-up", "size MB"]
    header += ["memory MB"] if has_memory else []
    header += ["mJ/image"] if has_energy else []
    header += ["mismatches"]
    rows = []
    for entry in entries:
        row = [
            entry["label"],
            _precisions(entry["layers"]),
            _share(entry, macs),
            str(entry["batch"]),
        ]
        row += [_ms(entry), f"{entry['median_ms'] / entry['batch']:.4g}", _speed_up(entry, entries)]
        row += [_megabytes(entry["size_bytes"])]
        row += [_megabytes(entry["peak_memory_bytes"])] if has_memory else []
        row += [_energy(entry)] if has_energy else []
        row += [str(len(entry.get("mismatches", ())))]
        rows.append(row)
    notes = [
        "±: 95% interval of the median. Speed-up: over FP32 at the same batch. "
        "Mismatches: layers that run in something else than expected."
    ]
    if has_memory:
        notes.append("Memory: what building the engine and its first run added.")
    if has_energy:
        notes.append("Energy: of all that the meter sees, idle share included.")
    return f"{text_table(header, rows, right=range(2, len(header)))}\n\n" + "\n".join(notes)


def layers_tables(document: Entry) -> str:
    """A table for each map at the smallest batch, layers in order; a step's time is shared by its layers."""
    smallest = min(entry["batch"] for entry in document["measurements"])
    return "\n\n".join(
        _layers_table(entry) for entry in document["measurements"] if entry["batch"] == smallest
    )


def _layers_table(entry: Entry) -> str:
    total = sum(_step_times(entry["layers"]).values())
    rows = [
        (
            row["layer"],
            UNTOLD if row["node"] == row["layer"] else row["node"],
            UNTOLD if row["engine_layer"] is None else row["engine_layer"],
            (row.get("actual") or UNTOLD).upper(),
            UNTOLD if row["ms"] is None else f"{row['ms']:.3f}",
            UNTOLD if row["ms"] is None or not total else f"{row['ms'] / total:.1%}",
        )
        for row in entry["layers"]
    ]
    table = text_table(("layer", "ONNX node", "engine layer", "runs", "ms", "share"), rows, right=(4, 5))
    told = f"; layers take {total:.3f} ms together" if total else "; the runtime tells no times of layers"
    return f"{entry['label']}, batch {entry['batch']}{told}\n\n{table}"


def _step_times(rows: Sequence[Entry]) -> dict[str, float]:
    """Milliseconds by engine layer, each once."""
    return {row["engine_layer"]: row["ms"] for row in rows if row["ms"] is not None}


def _ms(entry: Entry) -> str:
    return ms_text(entry["median_ms"], entry["half_width_ms"])


def _speed_up(entry: Entry, entries: Sequence[Entry]) -> str:
    baselines: Iterator[Entry] = (
        one for one in entries if one["label"] == "FP32" and one["batch"] == entry["batch"]
    )
    baseline = next(baselines, None)
    if baseline is None or not entry["median_ms"]:
        return UNTOLD
    return f"{baseline['median_ms'] / entry['median_ms']:.2f}x"


def _precisions(rows: Sequence[Entry]) -> str:
    """The counts of layers by precision, as the engine tells: `21 INT8, 2 FP32`."""
    counts = Counter(row.get("actual") for row in rows)
    order = [*sorted(told for told in counts if told is not None), *([None] if None in counts else [])]
    parts = [f"{counts[told]} {'untold' if told is None else told.upper()}" for told in order]
    return ", ".join(reversed(parts)) or UNTOLD


def _share(entry: Entry, macs: Mapping[str, int]) -> str:
    """The share of the multiply-accumulates that the engine runs in INT8; as asked where it does not tell."""
    if not macs:
        return UNTOLD
    asked = PrecisionMap.from_json(entry["map"])
    runs = {row["layer"]: row.get("actual") or str(asked[row["layer"]]) for row in entry["layers"]}
    in_int8 = sum(macs.get(layer, 0) for layer, runs_in in runs.items() if runs_in == Precision.INT8)
    return f"{in_int8 / max(sum(macs.values()), 1):.1%}"


def _megabytes(size_bytes: int | None) -> str:
    return UNTOLD if size_bytes is None else f"{size_bytes / 1e6:.2f}"


def _energy(entry: Entry) -> str:
    return UNTOLD if entry["energy_mj"] is None else f"{entry['energy_mj'] / entry['batch']:.3g}"


def parse_batches(text: str) -> tuple[int, ...]:
    """Read `1,16`."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{text!r} are no batch sizes: write them with commas, for example 1,16")
    return tuple(sorted({int(part) for part in parts}))


@dataclass(frozen=True)
class BenchFlags:
    """The wishes of the flags."""

    backend: str | None
    maps: str
    trials: tuple[int, ...]
    batches: tuple[int, ...]
    repeats: int
    threads: int | None
    options: tuple[PluginOption, ...]
    layers: bool
    latency_json: Path | None
    host: str | None
    python: str
    as_json: bool
    trust_checkpoint: bool


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN|BUNDLE...")
@click.option("--backend", metavar="NAME", help="Runtime; else the run's target, OpenVINO or ONNX Runtime.")
@click.option(
    "--maps",
    type=click.Choice(("anchors", "chosen", "front", "all")),
    default="front",
    show_default=True,
    help="FP32, FP16 and INT8; the chosen map too; the Pareto front too; every map.",
)
@click.option("--trial", "trials", type=click.IntRange(min=0), multiple=True, help="FP32 and these instead.")
@click.option(
    "--batch",
    "batches",
    type=parse_batches,
    default="1",
    show_default=True,
    metavar="N,N,...",
    help="Samples that run at once, for example 1,16.",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=3, max=1_000_000),
    default=DEFAULT_REPEATS,
    show_default=True,
    help="Timed runs of each map.",
)
@click.option("--threads", type=whole_number("threads"), help="CPU threads; 0 leaves it to the runtime.")
@click.option(
    "--option",
    "options",
    multiple=True,
    type=parse_plugin_option,
    metavar="backend.KEY=VALUE",
    help="Option of the backend.",
)
@click.option("--layers", is_flag=True, help="Time single layers too, where the runtime can.")
@click.option(
    "--latency-json",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the numbers to this file too, for `qsens select RUN --latency FILE`.",
)
@click.option("--on", "host", metavar="USER@HOST", help="Measure on this device, over the system's ssh.")
@click.option("--python", default="python3", show_default=True, metavar="PATH", help="Python on that device.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON, one line a folder.")
@click.option("--trust-checkpoint", is_flag=True, help="Let the checkpoint run code while it loads.")
@gathered(BenchFlags, "asked")
def bench(folders: tuple[Path, ...], *, asked: BenchFlags) -> None:
    """Measure the maps of run folders, or the maps of bundles, on this machine.

    All maps are timed in turn, in one process, and no second bench runs at the same time. A run keeps the
    numbers in its folder latency/, where `qsens report` finds them (those of an earlier bench of the same
    device and runtime go to latency/earlier/). Ctrl-C keeps what is measured. With --on the maps go to that
    device as bundles; Python 3.8, NumPy and the runtime are enough there.
    """
    # numpy, onnx and the runtime take seconds to load.
    from qsens.deploy.bench_folder import BenchWishes, bench_folders

    values = {**vars(asked), "options": _backend_options(asked.options)}
    as_json = values.pop("as_json")
    wishes = BenchWishes(**values)
    with ProgressLine() as progress:
        measured = bench_folders(folders, wishes, progress=progress, hear=_hear)
        for folder, found in zip(folders, measured, strict=False):
            progress.close()
            _show(folder, found, shows_layers=asked.layers, as_json=as_json)


def _hear(line: str) -> None:
    click.echo(line, err=True)


def _backend_options(given: Sequence[PluginOption]) -> dict[str, Any]:
    """Options of the backend. Raises `SpecError` for an option of something else."""
    foreign = [option.group for option in given if option.group != "backend"]
    if foreign:
        raise SpecError(f"a bench has no {foreign[0]} options", "write --option backend.KEY=VALUE")
    return {option.name: option.value for option in given}


def _show(folder: Path, found: "BenchedFolder", *, shows_layers: bool, as_json: bool) -> None:
    """Print the numbers of a folder. Raises `StoppedError` where some are missing."""
    document = found.document
    if as_json:
        echo_json(document, indent=None)
    else:
        click.echo(f"{device_text(document)}\n\n{bench_table(document, found.macs)}\n")
        if shows_layers:
            click.echo(f"{layers_tables(document)}\n")
    for place in found.files:
        click.echo(f"Written: {place}", err=as_json)
    if found.macs and not as_json:
        click.echo(f"Next: qsens select {folder} --latency {found.files[0]} chooses by these times.")
    if not found.is_complete:
        count = len(document["measurements"])
        raise StoppedError(f"stopped, {count} of the measurements were done and are kept", "")

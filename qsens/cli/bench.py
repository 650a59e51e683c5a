"""`qsens bench`: latency, memory, size and energy of maps on this machine, and tables of them."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from qsens.cli.option_values import PluginOption, parse_plugin_option
from qsens.cli.options import gathered, whole_number
from qsens.cli.progress import ProgressLine
from qsens.cli.text import echo_json, ms_text, text_table
from qsens.core.errors import SpecError
from qsens.core.files import write_error
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.targets import target_named
from qsens.core.trial import Study
from qsens.device.machine import load_average
from qsens.run.loop import StoppedError

UNTOLD = "-"
_LONGEST_NAME = 44
Entry = Mapping[str, Any]
BUNDLE_FILE = "bundle.json"
EARLIER = "earlier"
DEFAULT_REPEATS = 50
BUSY = 1.0


def macs_by_layer(study: Study) -> dict[str, int]:
    """Multiply-accumulates by layer, from which the share follows that an engine runs in INT8."""
    return {layer.name: layer.macs for layer in study.layers}


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
            UNTOLD if row["node"] == row["layer"] else _shortened(row["node"]),
            UNTOLD if row["engine_layer"] is None else _shortened(row["engine_layer"]),
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


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


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
    as_json: bool
    trust_checkpoint: bool

    def backend_name(self, target: str | None) -> str:
        """The backend that was asked for, else that of the run's target, OpenVINO or ONNX Runtime if here."""
        if self.backend is not None:
            return self.backend
        other = "openvino" if find_spec("openvino") else "onnxruntime"
        if target is None:
            return other
        declared = target_named(target)
        if declared.problem is None:
            return declared.backend
        _warn(f"the run is for {target}, which cannot run here ({declared.problem}): {other} is measured")
        return other

    def backend_options(self) -> dict[str, Any]:
        """Options of the backend.

        Raises:
            SpecError: for an option of something else.
        """
        foreign = [option.group for option in self.options if option.group != "backend"]
        if foreign:
            raise SpecError(f"a bench has no {foreign[0]} options", "write --option backend.KEY=VALUE")
        found: dict[str, Any] = {}
        if self.threads is not None:
            found["threads"] = self.threads
        return found | {option.name: option.value for option in self.options}


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
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON, one line a folder.")
@click.option("--trust-checkpoint", is_flag=True, help="Let the checkpoint run code while it loads.")
@gathered(BenchFlags, "asked")
def bench(folders: tuple[Path, ...], *, asked: BenchFlags) -> None:
    """Measure the maps of run folders, or the maps of bundles, on this machine.

    All maps are timed in turn, in one process, and no second bench runs at the same time. A run keeps the
    numbers in its folder latency/, where `qsens report` finds them (those of an earlier bench of the same
    device and runtime go to latency/earlier/). Ctrl-C keeps what is measured.
    """
    # numpy, onnx and the runtime take seconds to load.
    from qsens.deploy.bench import alone

    if asked.latency_json is not None and len(folders) > 1:
        raise SpecError("--latency-json FILE holds one folder's numbers", "give one folder, or leave it out")
    if asked.latency_json is not None and not asked.latency_json.absolute().parent.is_dir():
        raise SpecError(
            f"no folder {asked.latency_json.parent} to write to", "make it, or give another --latency-json"
        )
    load = load_average()
    with alone(_warn):
        if load is not None and load >= BUSY:
            _warn(f"the load average is {load:g}: other programs run, and the times are longer for it")
        for folder in folders:
            if (folder / BUNDLE_FILE).is_file():
                _bench_bundle(folder, asked)
            else:
                _bench_run(folder, asked)


def _bench_run(folder: Path, asked: BenchFlags) -> None:
    from qsens.core.plugins import create
    from qsens.deploy.bench_subjects import Maps, measured_graph, run_inputs, run_subjects, trials_to_measure
    from qsens.run.folder import read_run_spec, read_study
    from qsens.run.reopen import reopen_run
    from qsens.selection.timings import FOLDER

    name, study = asked.backend_name(read_run_spec(folder).target), read_study(folder)
    trials = trials_to_measure(folder, study, Maps(asked.maps), asked.trials)
    # Where a backend has an optimised mode, that is what ships.
    backend = create("backends", name, asked.backend_options(), offered={"optimised": True})
    reopened = reopen_run(folder, trust_checkpoint=asked.trust_checkpoint)
    subjects, inputs = run_subjects(reopened, backend, trials), run_inputs(reopened)
    bench = _Measured(subjects, inputs, measured_graph(reopened), asked)
    document = bench.document(name)
    place = folder / FOLDER / f"{_slug(document['device']['name'])}-{_slug(name)}.json"
    _keep_earlier(place)
    bench.finish(document, [place, *_wished(asked)], macs_by_layer(study))


def _bench_bundle(folder: Path, asked: BenchFlags) -> None:
    from dataclasses import replace

    from qsens.deploy.bench_subjects import bundle_subject
    from qsens.deploy.verify import checked_files

    bundle = checked_files(folder).bundle
    subject, inputs, graph = bundle_subject(bundle)
    if asked.backend not in (None, bundle.runtime):
        raise SpecError(
            f"{folder} is a bundle for {bundle.runtime}, not for {asked.backend}", "leave out --backend"
        )
    if asked.batches != (bundle.batch,):
        _warn(f"the bundle is for batch {bundle.batch}, which is measured")
    bench = _Measured([subject], inputs, graph, replace(asked, batches=(bundle.batch,)))
    bench.finish(bench.document(bundle.runtime), _wished(asked), {})


@dataclass(frozen=True, eq=False)
class _Measured:
    """A bench about to run, and what is done with its result."""

    subjects: Sequence[Any]
    inputs: Any
    graph: Any
    asked: BenchFlags

    def document(self, backend: str) -> dict[str, Any]:
        """Measure, and put the numbers together as the file holds them.

        Raises:
            StoppedError: if it was stopped before anything was measured.
        """
        from qsens.deploy.bench import BenchSettings, bench
        from qsens.device.latency import latency_document
        from qsens.device.machine import describe_device

        asked, load = self.asked, load_average()
        settings = BenchSettings(asked.batches, asked.repeats, profiles_layers=asked.layers)
        with ProgressLine() as progress:
            result = bench(
                self.subjects,
                self.inputs.feeds,
                settings,
                on_gpu=backend.startswith(("tensorrt", "torch2trt")),
                progress=progress,
            )
        for label, reason in result.skipped.items():
            _warn(f"not measured: {label}: {reason}")
        if not result.measured:
            raise StoppedError("stopped before anything was measured", "")
        threads = {} if asked.threads is None else {"threads": str(asked.threads)}
        runtime = {**result.runtime, "backend": backend, "inputs": self.inputs.kind, **threads}
        # Clocks as they are under load, the load as it was without us.
        device = {**describe_device(backend), "load_average": load}
        document = latency_document(result.measured, device=device, runtime=runtime, graph=self.graph)
        return {**document, "is_complete": result.is_complete}

    def finish(self, document: dict[str, Any], places: Sequence[Path], macs: Mapping[str, int]) -> None:
        """Write the files and show the tables.

        Raises:
            StoppedError: if the bench was stopped, after what it measured is written.
        """
        is_complete = document.pop("is_complete")
        for place in places:
            _write(place, document)
        if self.asked.as_json:
            echo_json(document, indent=None)
        else:
            click.echo(f"{device_text(document)}\n\n{bench_table(document, macs)}\n")
            if self.asked.layers:
                click.echo(f"{layers_tables(document)}\n")
        for place in places:
            click.echo(f"Written: {place}", err=self.asked.as_json)
        if not is_complete:
            count = len(document["measurements"])
            raise StoppedError(f"stopped, {count} of the measurements were done and are kept", "")


def _keep_earlier(place: Path) -> None:
    """Move an earlier file of this device aside: times of two sessions are not compared in one table."""
    if not place.exists():
        return
    kept = place.parent / EARLIER
    numbers = (number for number in itertools.count(1) if not (kept / f"{place.stem}-{number}.json").exists())
    target = kept / f"{place.stem}-{next(numbers)}.json"
    try:
        kept.mkdir(exist_ok=True)
        place.rename(target)
    except OSError as error:
        raise write_error(target, error) from error
    _warn(f"the times of an earlier bench are now {target}")


def _wished(asked: BenchFlags) -> list[Path]:
    return [] if asked.latency_json is None else [asked.latency_json]


def _write(path: Path, document: Mapping[str, Any]) -> None:
    from qsens.core.errors import RunFolderError
    from qsens.device.errors import DeviceError
    from qsens.device.latency import write_latency

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_latency(path, document)
    except DeviceError as error:
        raise RunFolderError(error.message, error.hint) from error


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "device"


def _warn(text: str) -> None:
    click.echo(f"Warning: {text}", err=True)

"""Tables of a latency file for the terminal: maps, and single layers under their three names."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qsens.cli.text import ms_text
from qsens.cli.text_table import text_table
from qsens.core.maps import built_map, int8_share
from qsens.core.trial import Study
from qsens.selection.timings import canonical_digest

UNTOLD = "-"
_LONGEST_NAME = 44
Entry = Mapping[str, Any]


def share_by_map(study: Study) -> dict[str, float]:
    """Share of the multiply-accumulates in INT8, 0 to 1, by digest of the map in its canonical form."""
    names = [layer.name for layer in study.layers]
    return {canonical_digest(built_map(trial), names): int8_share(study, trial) for trial in study.scored()}


def device_text(document: Entry) -> str:
    """What the numbers were measured on."""
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


def bench_table(document: Entry, shares: Mapping[str, float]) -> str:
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
            _share(shares.get(entry["map_digest"])),
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
    """How many layers run in what, as the engine tells: `21 INT8, 2 FP32`."""
    counts = Counter(row.get("actual") for row in rows)
    order = [*sorted(told for told in counts if told is not None), *([None] if None in counts else [])]
    parts = [f"{counts[told]} {'untold' if told is None else told.upper()}" for told in order]
    return ", ".join(reversed(parts)) or UNTOLD


def _share(share: float | None) -> str:
    return UNTOLD if share is None else f"{share:.1%}"


def _megabytes(size_bytes: int | None) -> str:
    return UNTOLD if size_bytes is None else f"{size_bytes / 1e6:.2f}"


def _energy(entry: Entry) -> str:
    return UNTOLD if entry["energy_mj"] is None else f"{entry['energy_mj'] / entry['batch']:.3g}"


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"

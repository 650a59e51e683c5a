"""The check of a bundle: engine rebuilt, audited, compared with goldens, timed; and its text for people."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence

from qsens.device.audit import LayerAudit, audit_layers, mismatches
from qsens.device.bundle_files import Bundle
from qsens.device.bundle_model import open_bundle
from qsens.device.errors import DeviceError
from qsens.device.goldens import (
    GoldenResult,
    Goldens,
    beyond_goldens,
    bundle_goldens,
    call_feed,
    compare_with_both,
)
from qsens.device.latency import (
    Latency,
    MapLatency,
    MeasuredGraph,
    latency_document,
    layer_rows,
    measure_latency,
    mismatched_layers,
    write_latency,
)
from qsens.device.machine import describe_device
from qsens.device.open_engine import open_engine
from qsens.device.time_limit import process_limit
from qsens.device.visible_text import visible_name, visible_text

if TYPE_CHECKING:
    import numpy as np

    from qsens.device.audit import DeviceEngine

    Array = np.ndarray[Any, Any]


FINE, MISMATCH = 0, 4
WARM_UP = 10
# A batch of the slowest generator on the slowest board takes less by far.
LONGEST_RUN_S = 600.0
PROFILE_REPEATS = 10
_HEADER = ("", "layer", "ONNX node", "engine layer", "asked", "expected", "runs")
_WIDEST = 44
_UNTOLD = "-"


@dataclass(frozen=True)
class ComparedFiles:
    """The number of files that are as they were exported, and the digest over them.

    `compare_again` raises where one has changed since.
    """

    count: int
    digest: str
    compare_again: Callable[[], object]


@dataclass(frozen=True)
class BundleReport:
    """The findings of a check; `latency` and `layer_times` are `None` and empty where not measured."""

    bundle: Bundle
    files: ComparedFiles
    runtime: str
    version: str
    build_s: float
    size_bytes: int
    audit: tuple[LayerAudit, ...]
    goldens: GoldenResult
    latency: Latency | None
    layer_times: tuple[dict[str, Any], ...]

    @property
    def exit_code(self) -> int:
        """Zero, or 4 where a layer runs in another precision or the pictures are not close enough."""
        return MISMATCH if mismatches(self.audit) or self.goldens.problems else FINE

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            "bundle": str(self.bundle.folder),
            "ok": self.exit_code == FINE,
            "exit_code": self.exit_code,
            "files": self.files.count,
            "digest": self.files.digest,
            "runtime": {"name": self.runtime, "version": self.version},
            "batch": self.bundle.batch,
            "build_s": self.build_s,
            "size_bytes": self.size_bytes,
            "mismatches": [row.layer for row in mismatches(self.audit)],
            "layers": [row.to_json() for row in self.audit],
            "goldens": self.goldens.to_json(),
            "latency": None if self.latency is None else asdict(self.latency),
        }

    def latency_json(self) -> dict[str, Any] | None:
        """The latency file of this map, as `qsens bench --latency-json` writes it; `None` if not measured."""
        if self.latency is None:
            return None
        document = self.bundle.document
        measured = MapLatency(
            label=_label(document["map"]["deployed"]),
            precision_map=document["map"]["deployed"],
            map_digest=document["map"]["digest"],
            flavour=self.bundle.flavour,
            batch=self.bundle.batch,
            latency=self.latency,
            size_bytes=self.size_bytes,
            mismatches=mismatched_layers(self.audit),
            layers=self.layer_times,
        )
        model = document["model"]
        return latency_document(
            [measured],
            device=describe_device(self.runtime),
            runtime={"name": self.runtime, "version": self.version},
            graph=MeasuredGraph(model["name"], model["graph"], tuple(row.layer for row in self.bundle.asked)),
        )


def _label(deployed: Mapping[str, Any]) -> str:
    """The name of a map in the paper's tables: its precision, or MIX."""
    return "MIX" if deployed["overrides"] else str(deployed["default"]).upper()


def check_engine(bundle: Bundle, files: ComparedFiles, *, repeats: int) -> BundleReport:
    """Rebuild, audit, compare with the goldens and measure; closes the engine.

    `repeats` are the runs that are timed; 0 leaves the measuring out.

    Raises:
        DeviceError: for goldens that are not what the document says, a missing runtime, or an engine that
            cannot be built or run; and what `files.compare_again` raises.
    """
    goldens = bundle_goldens(bundle)
    start = time.perf_counter()
    engine = open_engine(bundle)
    build_s = time.perf_counter() - start
    try:
        report = _checked(bundle, goldens, engine, files, build_s)
        # The runtime opened the files itself, after they were compared.
        files.compare_again()
        return report if not repeats else _measured(report, goldens, engine, repeats)
    finally:
        engine.close()


def _checked(
    bundle: Bundle, goldens: Goldens, engine: DeviceEngine, files: ComparedFiles, build_s: float
) -> BundleReport:
    def run(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        with process_limit(LONGEST_RUN_S, "one run of the engine"):
            return engine.run(feeds)

    # Some runtimes compile, and can be audited, when shapes are first run.
    compared = compare_with_both(run, bundle, goldens, beyond_goldens(bundle))
    return BundleReport(
        bundle=bundle,
        files=files,
        runtime=engine.runtime,
        version=engine.version,
        build_s=build_s,
        size_bytes=engine.size_bytes,
        audit=audit_layers(bundle.asked, engine.executed_layers()),
        goldens=compared,
        latency=None,
        layer_times=(),
    )


def _measured(report: BundleReport, goldens: Goldens, engine: DeviceEngine, repeats: int) -> BundleReport:
    feeds = call_feed(report.bundle, goldens.inputs, report.bundle.batch)
    latency = measure_latency(lambda: engine.run(feeds), warm_up=WARM_UP, repeats=repeats)
    times = layer_rows(report.audit, engine.step_times_ms(feeds, min(PROFILE_REPEATS, repeats)))
    return replace(report, latency=latency, layer_times=times)


def main(options: argparse.Namespace, folder: Path, files: ComparedFiles) -> int:
    """Check the bundle in `folder`, print what was found, and return the exit code."""
    try:
        repeats = 0 if options.no_latency else options.repeats
        report = check_engine(open_bundle(folder), files, repeats=repeats)
        if options.latency_json is not None:
            write_latency(Path(options.latency_json), report.latency_json() or {})
    except DeviceError as error:
        _show_error(error)
        return error.exit_code
    text = json.dumps(report.to_json(), indent=2) if options.json else report_text(report)
    sys.stdout.write(text + "\n")
    return report.exit_code


def report_text(report: BundleReport) -> str:
    """A check as a person reads it: the audit, the goldens, the latency and the verdict."""
    return visible_text("\n".join(_report_lines(report)))


def _report_lines(report: BundleReport) -> list[str]:
    return [
        f"{report.files.count} files are as they were exported; digest {report.files.digest}",
        f"{report.runtime} {report.version} built the engine in {report.build_s:.1f} s, "
        f"{report.size_bytes / 2**20:.2f} MiB.",
        "",
        audit_text(report.audit),
        "",
        *_golden_lines(report),
        *_latency_lines(report),
        "",
        _verdict(report),
    ]


def audit_text(audit: Sequence[LayerAudit]) -> str:
    """A table of the layers under their three names; an exclamation mark where another precision runs."""
    rows = [_HEADER, *(_audit_row(row) for row in audit)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    notes = sorted({f"{row.layer}: {row.note}" for row in audit if row.note})
    return visible_text("\n".join([*lines, *([""] if notes else []), *notes]))


def _audit_row(row: LayerAudit) -> tuple[str, ...]:
    return (
        "!" if row.is_mismatch else "",
        visible_name(row.layer),
        _short(row.node),
        _UNTOLD if row.engine_layer is None else _short(row.engine_layer),
        row.requested,
        row.expected,
        row.actual or _UNTOLD,
    )


def _short(name: str) -> str:
    shown = visible_name(name)
    return shown if len(shown) <= _WIDEST else shown[: _WIDEST - 3] + "..."


def _golden_lines(report: BundleReport) -> list[str]:
    found = report.goldens
    if found.fp32_psnr_db != found.fp32_psnr_db:  # NaN: there was nothing to compare
        return []
    return [
        f"PSNR of the golden pictures against FP32: {found.fp32_psnr_db:.2f} dB "
        f"(at least {found.fp32_bound_db:.2f})",
        f"PSNR against the pictures that were scored: {found.exact_psnr_db:.2f} dB "
        f"(at least {found.exact_bound_db:.2f})",
        *(
            f"Output {visible_name(entry.output)}: relative error against FP32 {entry.relative_error:.4f} "
            f"(at most {entry.limit:.4f})"
            for entry in found.others
        ),
        *_beyond_lines(found.beyond),
    ]


def _beyond_lines(found: GoldenResult | None) -> list[str]:
    if found is None or found.fp32_psnr_db != found.fp32_psnr_db:
        return []
    return [
        f"PSNR beyond the calibrated range: {found.fp32_psnr_db:.2f} dB against FP32 (at least "
        f"{found.fp32_bound_db:.2f}), {found.exact_psnr_db:.2f} dB against the scored arithmetic (at least "
        f"{found.exact_bound_db:.2f})"
    ]


def _latency_lines(report: BundleReport) -> list[str]:
    latency = report.latency
    if latency is None:
        return []
    return [
        f"Latency, batch {report.bundle.batch}: median {latency.median_ms:.3f} ms, half of the runs within "
        f"{latency.p25_ms:.3f} to {latency.p75_ms:.3f} ms ({latency.runs} runs)"
    ]


def report_problems(report: BundleReport) -> list[str]:
    """The reasons that make the check fail, one sentence each."""
    found = [
        f"{row.layer} runs in {row.actual}, {row.expected} was expected ({row.engine_layer})"
        for row in mismatches(report.audit)
    ]
    return found + list(report.goldens.problems)


def _verdict(report: BundleReport) -> str:
    problems = report_problems(report)
    if problems:
        return "\n".join(f"MISMATCH: {text}" for text in problems)
    total = len(report.audit)
    untold = sum(1 for row in report.audit if row.actual is None)
    if untold:
        return f"Fine, as far as the runtime tells: it says nothing of {untold} of {total} layers."
    return f"Fine: all {total} layers run as expected, and the pictures are close enough to the golden ones."


def _show_error(error: DeviceError) -> None:
    sys.stderr.write(f"Error: {visible_text(error.message)}\n")
    if error.hint:
        sys.stderr.write(f"Hint: {visible_text(error.hint)}\n")

"""The checks of a bundle's `verify.py` once its files are compared, and the text that they end in."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Sequence

from qsens.device.audit import LayerAudit, mismatches
from qsens.device.bundle_model import open_bundle
from qsens.device.check import BundleReport, ComparedFiles, check_engine
from qsens.device.errors import DeviceError
from qsens.device.latency_file import write_latency
from qsens.device.visible_text import visible_name, visible_text

_HEADER = ("", "layer", "ONNX node", "engine layer", "asked", "expected", "runs")
_WIDEST = 44
_UNTOLD = "-"


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
    """What a person reads of a check: the audit, the goldens, the latency and the verdict."""
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
    """What makes the check fail, one sentence each."""
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

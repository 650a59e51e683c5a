"""JSON, plain tables, and measured times in words, for the terminal."""

import json
import math
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

import click

from qsens.core.precision import Precision
from qsens.core.schema import finite
from qsens.selection.choose_by_latency import MEASURE_MORE
from qsens.selection.timings import SAME_SHARE, LatencyChoice, MeasuredMap

MOST_NAMED = 6
LONG_WORD = 24


def echo_json(value: Any, *, indent: int | None = 2) -> None:
    """Print plain values as one document; NaN and infinity, which JSON does not have, are `null`."""
    click.echo(json.dumps(finite(value), indent=indent, allow_nan=False))


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Columns padded to their widest cell, two spaces apart; the columns in `right` are right-aligned.

    On a terminal too narrow for it the widest cells go on in the next line, between words.

    >>> print(text_table(("map", "share"), [("all INT8", "100%"), ("FP32", "0%")], right=(1,)))
    map       share
    all INT8   100%
    FP32         0%
    """
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    if sys.stdout.isatty():
        widths = _fitted(lines, widths, shutil.get_terminal_size().columns)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(part, widths, strict=True))
        ).rstrip()
        for line in lines
        for part in _parts(line, widths)
    )


def _fitted(lines: Sequence[Sequence[str]], widths: Sequence[int], room: int) -> list[int]:
    """The widths, the widest made smaller until the line has room; only words over `LONG_WORD` are broken."""
    least = [
        min(
            width, max(min(len(word), LONG_WORD) for line in lines for word in (line[column].split() or [""]))
        )
        for column, width in enumerate(widths)
    ]
    fitted = list(widths)
    while sum(fitted) + 2 * (len(fitted) - 1) > room:
        shrinkable = [column for column, width in enumerate(fitted) if width > least[column]]
        if not shrinkable:
            break
        fitted[max(shrinkable, key=fitted.__getitem__)] -= 1
    return fitted


def _parts(line: Sequence[str], widths: Sequence[int]) -> Iterator[tuple[str, ...]]:
    """The lines that a row takes, each a cell a column."""
    wrapped = [
        [cell] if len(cell) <= width else textwrap.wrap(cell, width, break_on_hyphens=False)
        for cell, width in zip(line, widths, strict=True)
    ]
    return zip_longest(*wrapped, fillvalue="")


def shown_ms(measured: MeasuredMap | None) -> str:
    """The median with half its interval, to the digit that the interval leaves; a dash where nothing is."""
    return "-" if measured is None else ms_text(measured.ms, measured.half_width_ms)


def ms_text(ms: float, half_width_ms: float) -> str:
    """Milliseconds and half an interval, as many decimals as two digits of the interval need.

    >>> ms_text(3.14159, 0.0271)
    '3.142 ± 0.027'
    """
    if half_width_ms <= 0:
        return f"{ms:.4g}"
    decimals = min(6, max(0, 1 - math.floor(math.log10(half_width_ms))))
    return f"{ms:.{decimals}f} ± {half_width_ms:.{decimals}f}"


def latency_lines(choice: LatencyChoice) -> list[str]:
    """Sentences on the times measured for the chosen map and what follows from them, one a line."""
    timings, measured = choice.timings, choice.measured
    text = f"Time: {shown_ms(measured)} ms on {timings.place}"
    faster = timings.speed_up(measured)
    if faster is not None and timings.fp32 is not None and timings.fp32 is not measured:
        text += f", {faster:.2f}x as fast as FP32 ({shown_ms(timings.fp32)} ms)"
    if choice.limit_ms is not None:
        text += f"; at most {choice.limit_ms:g} ms allowed"
    return [f"{text}.", *_verdict(choice), *_mismatches(measured), *_left_out(choice)]


def float_name(choice: LatencyChoice) -> str:
    """The name of a chosen map without INT8: the widest of its precisions alone, else both."""
    precision_map = choice.measured.precision_map
    found = {precision_map.default, *(value for _, value in precision_map.overrides)}
    return " and ".join(precision.upper() for precision in Precision if precision in found)


def _verdict(choice: LatencyChoice) -> list[str]:
    device, trial = choice.timings.table.device_name, choice.fastest_int8
    if choice.does_int8_pay is False and trial is not None:
        rival = choice.timings.by_trial[trial.number]
        lines = [
            f"INT8 does not pay on {device}: ship {float_name(choice)}. "
            f"The fastest map with INT8 within the limits, trial {trial.number}, takes {shown_ms(rival)} ms."
        ]
        if rival.ms < choice.measured.ms * (1 - SAME_SHARE):
            lines.append("Its gain is within the spread of the times; more --repeats may tell it.")
        return lines
    if choice.is_float and trial is None:
        return ["No measured map with INT8 is within the limits."]
    return []


def _mismatches(measured: MeasuredMap) -> list[str]:
    if not measured.mismatches:
        return []
    named, count = ", ".join(measured.mismatches[:MOST_NAMED]), len(measured.mismatches)
    more = f" and {count - MOST_NAMED} more" if count > MOST_NAMED else ""
    return [f"Warning: the measured engine runs these in another precision than it should: {named}{more}."]


def _left_out(choice: LatencyChoice) -> list[str]:
    if not choice.left_out:
        return []
    what = "One scored map was" if choice.left_out == 1 else f"{choice.left_out} scored maps were"
    return [f"{what} not measured and left out; {MEASURE_MORE}"]

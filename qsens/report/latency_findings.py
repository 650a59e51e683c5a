"""What measured times say: how fast the maps are on a device, and whether INT8 pays there."""

from collections.abc import Iterator, Sequence

from qsens.core.maps import anchor_trial
from qsens.core.metric_names import format_value
from qsens.core.precision import Precision
from qsens.core.trial import Study, Trial
from qsens.report.finding import Finding, Severity
from qsens.selection.timings import MeasuredMap, Timings

_SHOWN = 6


def latency_findings(study: Study, timings: Timings, chosen: Trial | None) -> Iterator[Finding]:
    """Times of the references and the chosen map, whether INT8 pays, engines that run something else.

    Of a table with several batch sizes only the smallest has findings; tables and figures show them all.
    """
    if timings.batch != timings.table.batches[0]:
        return
    measured = list(timings.by_trial.values())
    if not measured:
        text = f"No map of this run was measured on {timings.place}: {timings.table.path.name} holds others."
        yield Finding(Severity.WARNING, "Measured times of other maps", text)
        return
    yield _times(study, timings, chosen)
    yield from _whether_int8_pays(timings, measured)
    yield from _whether_choice_pays(timings, chosen, measured)
    yield from _mismatches(timings, measured)


def _times(study: Study, timings: Timings, chosen: Trial | None) -> Finding:
    named = [
        (precision.upper() if precision is Precision.FP32 else f"all {precision.upper()}", trial)
        for precision in Precision
        if (trial := anchor_trial(study, precision)) is not None
    ]
    if chosen is not None and all(trial is not chosen for _, trial in named):
        named.append(("the chosen map", chosen))
    parts = [
        f"{name} {_with_speed_up(timings, entry)}"
        for name, trial in named
        if (entry := timings.of(trial)) is not None
    ]
    listed = f": {', '.join(parts)}" if parts else ""
    text = (
        f"Median times of one run{listed}. {len(timings.by_trial)} of {len(study.scored())} scored maps were "
        "measured."
    )
    return Finding(Severity.NOTE, f"Measured on {timings.place}", text)


def _with_speed_up(timings: Timings, measured: MeasuredMap) -> str:
    text, faster = f"{format_value(measured.ms)} ms", timings.speed_up(measured)
    return text if faster is None or measured is timings.fp32 else f"{text} ({faster:.2f}x)"


def _whether_int8_pays(timings: Timings, measured: Sequence[MeasuredMap]) -> Iterator[Finding]:
    """Only where all kinds were measured can it be said."""
    in_int8 = [entry for entry in measured if entry.has_int8]
    in_float = [entry for entry in measured if not entry.has_int8]
    if not in_int8 or not in_float:
        return
    fastest_int8 = min(in_int8, key=lambda entry: entry.ms)
    fastest_float = _float_to_ship(in_float)
    if fastest_int8.ms < fastest_float.ms and not fastest_int8.is_as_fast_as(fastest_float):
        return
    text = (
        f"The fastest map with INT8 takes {format_value(fastest_int8.ms)} ms on {timings.place}, the fastest "
        f"without {format_value(fastest_float.ms)} ms: ship {fastest_float.label} there."
    )
    yield Finding(Severity.WARNING, f"INT8 does not pay on {timings.table.device_name}", text)


def _whether_choice_pays(
    timings: Timings, chosen: Trial | None, measured: Sequence[MeasuredMap]
) -> Iterator[Finding]:
    entry = None if chosen is None else timings.of(chosen)
    floats = [one for one in measured if not one.has_int8]
    if entry is None or not entry.has_int8 or not floats:
        return
    rival = _float_to_ship(floats)
    if entry.ms < rival.ms and not entry.is_as_fast_as(rival):
        return
    text = (
        f"It takes {format_value(entry.ms)} ms on {timings.place}, {rival.label} {format_value(rival.ms)} "
        "ms, which is less or cannot be told apart. Choose by time: "
        f"qsens select RUN --latency {timings.table.short_path}."
    )
    yield Finding(Severity.WARNING, "The chosen map is no faster than float", text)


def _float_to_ship(in_float: Sequence[MeasuredMap]) -> MeasuredMap:
    """Of the fastest maps without INT8 the smallest; FP32 where another gains neither time nor size."""
    fastest = min(in_float, key=lambda entry: entry.ms)
    as_fast = [entry for entry in in_float if entry.is_as_fast_as(fastest)]
    return min(as_fast, key=lambda entry: (entry.size_bytes, entry.label != "FP32", entry.ms))


def _mismatches(timings: Timings, measured: Sequence[MeasuredMap]) -> Iterator[Finding]:
    names = [name for entry in measured for name in entry.mismatches]
    if not names:
        return
    worst = sorted(set(names), key=lambda name: (-names.count(name), name))
    more = f" and {len(worst) - _SHOWN} more" if len(worst) > _SHOWN else ""
    count = sum(bool(entry.mismatches) for entry in measured)
    text = (
        f"In {count} of the {len(measured)} engines measured on {timings.place} layers run in another "
        f"precision than they should: {', '.join(worst[:_SHOWN])}{more}. Their times are of those engines."
    )
    yield Finding(Severity.WARNING, "Measured engines are not what was asked for", text)

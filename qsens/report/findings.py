"""Findings to read before believing a run: masking, sample size, overflow, failures, refusals, times."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from qsens.calibration.range_check import RangeCheck
from qsens.core.interfaces import Role
from qsens.core.maps import anchor_name, anchor_trial
from qsens.core.metric_names import Z95, extractor_name, facts_of, format_value, role_of, short_name
from qsens.core.precision import Precision
from qsens.core.trial import Outcome, Score, Study, Trial
from qsens.report.comparable import reference_of, scored_trials
from qsens.report.tables import differing_layers
from qsens.selection.timings import MeasuredMap, Timings

# Of an extractor by the name that scores show; Inception, which has none in brackets, is the usual one.
_FEATURES = {"": 2048, "lite0": 1280}
_FEW_FEATURES = 1000
_SHOWN = 6


class Severity(StrEnum):
    """The loudness of a finding."""

    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One thing to know; `title` is a few words, `text` a sentence or two with the numbers."""

    severity: Severity
    title: str
    text: str


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
        (anchor_name(precision, study.layers), trial)
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


def findings_of(
    study: Study,
    chosen: Trial | None = None,
    missing: int | None = None,
    timings: Sequence[Timings] = (),
    range_check: RangeCheck | None = None,
) -> tuple[Finding, ...]:
    """Everything to know about the study, the most serious first.

    `missing` is the number of planned maps without a trial, `None` where it is unknown; `timings` are times
    that were measured on devices; `range_check` is that of the run, where there is one.
    """
    found = [
        *_unfinished(study, missing),
        *_masking(study, chosen),
        *_overflows(study, chosen),
        *_failures(study),
        *_refusals(study),
        *_few_images(study),
        *_mixed_references(study),
        *_ranges(range_check),
        *(finding for entry in timings for finding in latency_findings(study, entry, chosen)),
    ]
    return tuple(sorted(found, key=lambda finding: list(Severity).index(finding.severity)))


def masks_damage(trial: Trial, real: str, baseline: str) -> bool:
    """Whether a map scores better than FP32 against real images only because it drifts away from FP32.

    True where the improvement is significant (95%) and smaller than the distance to the FP32 outputs.
    """
    to_real, to_fp32 = trial.score(real), trial.score(baseline)
    if to_real is None or to_fp32 is None or to_real.difference is None:
        return False
    if to_real.difference_standard_error is None:
        return False
    gain = -to_real.difference if to_real.lower_is_better else to_real.difference
    return gain > Z95 * to_real.difference_standard_error and to_fp32.value > gain


def _unfinished(study: Study, missing: int | None) -> Iterable[Finding]:
    if missing:
        text = f"{_maps(missing).capitalize()} not tried yet; the figures show {len(study.trials)} trials."
        yield Finding(Severity.WARNING, "The run is not finished", text)
    for precision in Precision:
        if anchor_trial(study, precision) is None:
            text = f"No scored trial runs {precision.upper()} everywhere, so its reference line is missing."
            yield Finding(Severity.WARNING, f"No {precision.upper()} reference", text)


def _masking(study: Study, chosen: Trial | None) -> Iterable[Finding]:
    for real in study.metrics:
        for baseline in study.metrics:
            is_pair = role_of(real) is Role.REAL_DISTANCE and role_of(baseline) is Role.FP32_DISTANCE
            if is_pair and extractor_name(real) == extractor_name(baseline):
                yield from _masking_by(study, real, baseline, chosen)


def _masking_by(study: Study, real: str, baseline: str, chosen: Trial | None) -> Iterable[Finding]:
    trials = [trial for trial in study.scored() if masks_damage(trial, real, baseline)]
    if not trials:
        return
    text = (
        f"{len(trials)} of {len(study.scored())} maps score significantly better than FP32 "
        f"on {short_name(real)} while they move further away from FP32's own outputs "
        f"({_numbers(trials)}). Quantization noise can hide blur: read that score together with the "
        "distance to the FP32 outputs and the pictures."
    )
    is_serious = chosen in trials
    title = "The chosen map's improvement may be masking" if is_serious else "Masking"
    yield Finding(Severity.WARNING if is_serious else Severity.NOTE, title, text)


def _overflows(study: Study, chosen: Trial | None) -> Iterable[Finding]:
    trials = [trial for trial in study.trials if trial.fp16_overflows]
    if not trials:
        return
    totals: dict[str, int] = {}
    for trial in trials:
        for layer, count in trial.fp16_overflows:
            totals[layer] = max(totals.get(layer, 0), count)
    worst = sorted(totals, key=lambda layer: -totals[layer])
    listed = ", ".join(f"{layer} ({totals[layer]})" for layer in worst[:_SHOWN])
    more = f" and {len(worst) - _SHOWN} more" if len(worst) > _SHOWN else ""
    text = (
        f"FP16 could not hold some values in {_maps(len(trials))} ({_numbers(trials)}); layers with the "
        f"largest counts: {listed}{more}. Give these layers FP32."
    )
    severity = Severity.WARNING if chosen is None or chosen.fp16_overflows else Severity.NOTE
    yield Finding(severity, "FP16 overflow", text)


def _failures(study: Study) -> Iterable[Finding]:
    failed = [trial for trial in study.trials if trial.outcome is Outcome.FAILED]
    for message in dict.fromkeys(trial.error or "no message" for trial in failed):
        trials = [trial for trial in failed if (trial.error or "no message") == message]
        yield Finding(
            Severity.WARNING, f"{_maps(len(trials)).capitalize()} failed", f"{message} ({_numbers(trials)})"
        )


def _refusals(study: Study) -> Iterable[Finding]:
    trials = [trial for trial in study.trials if differing_layers(trial, study.layers)]
    if not trials:
        return
    names = [name for trial in trials for name in differing_layers(trial, study.layers)]
    worst = sorted(set(names), key=lambda name: (-names.count(name), name))
    more = f" and {len(worst) - _SHOWN} more" if len(worst) > _SHOWN else ""
    text = (
        f"In {_maps(len(trials))} the engine runs other precisions than asked for ({_numbers(trials)}); "
        f"layers: {', '.join(worst[:_SHOWN])}{more}. Figures place maps by what ran, with hollow markers."
    )
    yield Finding(Severity.WARNING, "Built differently from the request", text)


def _few_images(study: Study) -> Iterable[Finding]:
    for metric in study.metrics:
        if not facts_of(metric).is_frechet:
            continue
        scored = scored_trials(study, metric)
        score = scored[0].trial.score(metric) if scored else None
        if score is None:
            continue
        features = _FEATURES.get(extractor_name(metric), _FEW_FEATURES)
        if score.images < features:
            text = (
                f"{short_name(metric)} was measured on {score.images} images, fewer than {features}: its "
                "value is biased and comparable only within this run. Differences between maps are paired "
                "and hold up better; do not compare the value with other papers."
            )
            yield Finding(Severity.NOTE, "Few images", text)
            return


def _ranges(check: RangeCheck | None) -> Iterable[Finding]:
    for title, text in () if check is None else check.warnings():
        yield Finding(Severity.WARNING, title, text)


def _mixed_references(study: Study) -> Iterable[Finding]:
    for metric in study.metrics:
        against = reference_of(study, metric)
        other = [trial for trial in study.scored() if _against(trial.score(metric)) not in (None, against)]
        if other:
            text = f"{short_name(metric)} of {_numbers(other)} was measured against something else; left out."
            yield Finding(Severity.WARNING, "Scores that cannot be compared", text)


def _against(score: Score | None) -> str | None:
    return None if score is None else score.against


def _numbers(trials: Sequence[Trial]) -> str:
    listed = ", ".join(str(trial.number) for trial in trials[:_SHOWN])
    more = f" and {len(trials) - _SHOWN} more" if len(trials) > _SHOWN else ""
    return f"trial{'s' if len(trials) != 1 else ''} {listed}{more}"


def _maps(count: int) -> str:
    return "one map" if count == 1 else f"{count} maps"

"""Tables of a study as pandas frames: trials, sensitivities, layers."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from qsens.core.layer import Layer
from qsens.core.maps import Direction
from qsens.core.metric_names import Z95
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Study, Trial
from qsens.report.figures.boundary_curve import plotted_cuts
from qsens.report.figures.sensitivity import sensitivity_of
from qsens.selection.choose import PairedError, no_paired_error
from qsens.selection.timings import Timings

_COUNTS = (
    "layers_fp32",
    "layers_fp16",
    "layers_int8",
    "differing_layers",
    "mismatches",
    "boundary_int8_first",
    "boundary_float_first",
    "size_bytes",
    "same_as",
)
_SENSITIVITY_COLUMNS = (
    "metric",
    "origin",
    "unit",
    "name",
    "index",
    "effect",
    "standard_error",
    "is_paired",
    "low",
    "high",
    "trial",
    "images",
    "is_screen",
)


def trials_table(study: Study, timings: Sequence[Timings] = ()) -> pd.DataFrame:
    """One row a trial. Shares are of the true MACs, 0 to 1; layer counts are those of the applied map.

    `boundary_int8_first` and `boundary_float_first` are set where the applied map (the requested one
    where the applied is no cut) is a cut; a uniform map is the end point 0 or N of both. Each metric has
    its value, standard error, difference to FP32, that difference's standard error and its image count.
    `same_as` is an earlier trial that ran the same graph. Of each of the `timings` there is the median in
    `ms[PLACE]`, and half its interval.
    """
    frame = pd.DataFrame([_trial_row(trial, study) for trial in study.trials], columns=_trial_columns(study))
    for entry in timings:
        found = [entry.of(trial) for trial in study.trials]
        frame[f"ms[{entry.place}]"] = [None if one is None else one.ms for one in found]
        frame[f"ms_half_width[{entry.place}]"] = [None if one is None else one.half_width_ms for one in found]
    counts = [*_COUNTS, *(name for name in frame.columns if str(name).endswith("_images"))]
    return frame.astype(dict.fromkeys(counts, "Int64"))


def sensitivity_table(
    study: Study,
    metrics: Iterable[str] | None = None,
    *,
    paired_error: PairedError = no_paired_error,
) -> pd.DataFrame:
    """One row a unit, origin and metric; `effect` with its 95% interval `low` to `high`, metric's unit.

    `images` is how many the scores were made on, and `is_screen` whether these are the few of a screen: such
    effects must only be compared with each other.
    """
    rows = []
    for metric in study.metrics if metrics is None else metrics:
        found = sensitivity_of(study, metric, paired_error)
        for effect in found.effects if found else ():
            error = effect.standard_error
            low, high = (
                (None, None) if error is None else (effect.value - Z95 * error, effect.value + Z95 * error)
            )
            place = (metric, effect.origin, effect.unit, effect.name, effect.start)
            found_in = (effect.trial, effect.images, effect.is_screen)
            rows.append((*place, effect.value, error, effect.is_paired, low, high, *found_in))
    return pd.DataFrame(rows, columns=list(_SENSITIVITY_COLUMNS))


def differing_layers(trial: Trial, layers: Sequence[Layer]) -> tuple[str, ...]:
    """Names of layers that run another precision than was asked for."""
    if trial.applied is None or trial.applied == trial.requested:
        return ()
    names = [layer.name for layer in layers]
    requested, applied = trial.requested.assignment(names), trial.applied.assignment(names)
    return tuple(name for name in names if requested[name] is not applied[name])


def _trial_row(trial: Trial, study: Study) -> dict[str, Any]:
    row: dict[str, Any] = {
        "number": trial.number,
        "outcome": str(trial.outcome),
        "map": study.shapes.map_title(trial.applied or trial.requested),
        "requested_int8_share": study.shapes.int8_share(trial.requested),
    }
    if trial.applied is not None:
        row |= _applied_columns(trial, trial.applied, study)
    for cut in plotted_cuts(trial, study):
        side = "int8" if cut.direction is Direction.INT8_FIRST else "float"
        row[f"boundary_{side}_first"] = cut.boundary
    for score in trial.scores:
        row[score.metric] = score.value
        row[f"{score.metric}_standard_error"] = score.standard_error
        row[f"{score.metric}_difference"] = score.difference
        row[f"{score.metric}_difference_standard_error"] = score.difference_standard_error
        row[f"{score.metric}_images"] = score.images
    row |= {"latency_ms": trial.latency_ms, "size_bytes": trial.size_bytes, "duration_s": trial.duration_s}
    row["fp16_overflows"] = sum(count for _, count in trial.fp16_overflows)
    return row | {"same_as": study.same_as(trial), "error": trial.error}


def _applied_columns(trial: Trial, applied: PrecisionMap, study: Study) -> dict[str, Any]:
    counts = Counter(applied.assignment(layer.name for layer in study.layers).values())
    return {
        "applied_int8_share": study.shapes.int8_share(applied),
        **{f"layers_{precision}": counts[precision] for precision in Precision},
        "differing_layers": len(differing_layers(trial, study.layers)),
        "mismatches": len(trial.mismatches),
    }


def _trial_columns(study: Study) -> list[str]:
    columns = ["number", "outcome", "map", "requested_int8_share", "applied_int8_share", *_COUNTS[:-2]]
    endings = ("", "_standard_error", "_difference", "_difference_standard_error", "_images")
    columns += [metric + ending for metric in study.metrics for ending in endings]
    return [*columns, "latency_ms", "size_bytes", "fp16_overflows", "duration_s", "same_as", "error"]

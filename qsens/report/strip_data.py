"""Pictures behind the image strips: which maps to show, their outputs and their errors against FP32."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qsens.core.maps import Direction, anchor_trial, built_map, map_title
from qsens.core.metric_names import short_name
from qsens.core.precision import Precision
from qsens.core.trial import Study
from qsens.report.boundary_data import boundary_lines
from qsens.report.comparable import scored_trials
from qsens.selection.choose import pareto_front

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]

MOST_COLUMNS = 8
MOST_INPUTS = 4
_SPREAD = 3


@dataclass(frozen=True)
class StripChoice:
    """A trial worth showing and why: its column's title."""

    trial: int
    title: str


@dataclass(frozen=True, eq=False)
class StripColumn:
    """One map's pictures. images: uint8 (K, 3, H, W), 0 to 255, RGB.

    errors: float32 (K, H, W), absolute difference to FP32 averaged over colours, in 8-bit levels.
    """

    choice: StripChoice
    images: "Array"
    errors: "Array"


@dataclass(frozen=True, eq=False)
class ImageStrip:
    """Columns of the same inputs; errors are drawn times `amplification`, full scale 255."""

    columns: tuple[StripColumn, ...]
    amplification: int


def strip_choices(study: Study, metric: str, chosen: int | None = None) -> tuple[StripChoice, ...]:
    """FP32, all-FP16, all-INT8, the chosen and the worst map and a few between; eight at most."""
    titles: dict[int, str] = {}
    for precision in Precision:
        trial = anchor_trial(study, precision)
        if trial is not None:
            titles[trial.number] = "FP32" if precision is Precision.FP32 else f"all {precision.upper()}"
    if chosen is not None:
        titles[chosen] = f"{titles[chosen]} (chosen)" if chosen in titles else "chosen map"
    scored = scored_trials(study, metric)
    if scored:
        score = scored[0].trial.score(metric)
        sign = 1.0 if score is None or score.lower_is_better else -1.0
        worst = max(scored, key=lambda entry: sign * entry.value)
        titles.setdefault(worst.trial.number, f"worst {short_name(metric)}")
    if not scored:
        return tuple(StripChoice(number, title) for number, title in titles.items())
    for number, title in _spread_maps(study, metric, MOST_COLUMNS - len(titles), titles):
        titles.setdefault(number, title)
    return tuple(StripChoice(number, title) for number, title in titles.items())


def image_strip(
    choices: Iterable[StripChoice], samples: "Mapping[int, Array]", baseline: int | None
) -> ImageStrip | None:
    """Columns of the choices that have pictures; `None` without FP32's pictures.

    samples: by trial number, uint8 (K, 3, H, W), 0 to 255, RGB. `baseline` is FP32's trial number.
    Pictures of another shape than FP32's are left out.
    """
    if baseline is None or baseline not in samples:
        return None
    reference = samples[baseline][:MOST_INPUTS]
    columns = []
    for choice in choices:
        images = samples.get(choice.trial)
        if images is None or images[:MOST_INPUTS].shape != reference.shape:
            continue
        images = images[:MOST_INPUTS]
        errors = np.abs(images.astype(np.float32) - reference.astype(np.float32)).mean(axis=1)
        columns.append(StripColumn(choice, images, errors))
    return ImageStrip(tuple(columns), amplification_for([column.errors for column in columns]))


def amplification_for(errors: "Sequence[Array]") -> int:
    """The power of two, 1 to 64, that brings a mild map's 99th percentile error near full scale.

    Mild is the lower quartile of the maps with any error: a collapsed map needs no magnifying glass.
    """
    peaks = [float(np.percentile(values, 99)) for values in errors if values.any()]
    if not peaks:
        return 1
    return int(2 ** np.clip(np.floor(np.log2(255 / max(float(np.quantile(peaks, 0.25)), 1.0))), 0, 6))


def _spread_maps(study: Study, metric: str, wanted: int, taken: Iterable[int]) -> list[tuple[int, str]]:
    """Cuts spread over the longest boundary line; without one, maps spread over the Pareto front."""
    lines = boundary_lines(study, metric)
    if lines:
        line = max(lines, key=lambda entry: (len(entry.points), entry.direction is Direction.INT8_FIRST))
        side = line.float_precision.upper()
        sides = f"INT8, then {side}" if line.direction is Direction.INT8_FIRST else f"{side}, then INT8"
        titles = {point.trial: f"boundary {point.boundary}\n{sides}" for point in line.points}
    else:
        front = pareto_front(study, metric)
        titles = {trial.number: _folded(map_title(built_map(trial), study.layers)) for trial in front}
    numbers = [number for number in titles if number not in set(taken)]
    places = np.linspace(0, len(numbers) - 1, max(min(wanted, _SPREAD, len(numbers)), 0))
    return [(numbers[place], titles[numbers[place]]) for place in places.round().astype(int)]


def _folded(title: str) -> str:
    return "\n".join(textwrap.wrap(title, 18))

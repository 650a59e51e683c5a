"""The floor of a metric: what it shows where nothing differs but the draw of images; kept in a run folder.

A finite sample lies away from its own distribution, so even real images score above zero against other real
images, more so the fewer there are. A distance to real images means little below the distance of real images
to each other at the same number of images; a distance to the FP32 outputs is put in proportion by what FP32
itself moves when other inputs are drawn. Kernel distances are unbiased: their floor is zero at any number.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qsens.core.errors import ScoreError
from qsens.core.files import is_as_written, keep_record, kept_record
from qsens.core.interfaces import Role
from qsens.core.maps import anchor_trial
from qsens.core.metric_names import extractor_name, facts_of
from qsens.core.precision import Precision
from qsens.core.trial import Score, Trial
from qsens.device.npz_sizes import read_arrays
from qsens.run.evidence import is_features, load_evidence
from qsens.run.folder import digest_in, read_run_spec, read_study
from qsens.run.paths import RunPaths
from qsens.scoring import inception
from qsens.scoring.influence import measure_pair
from qsens.scoring.several_extractors import columns_of

REAL = "real against real"
REDRAWN = "FP32 against other inputs"
Array = np.ndarray[Any, np.dtype[Any]]
SPLITS = 4
LEAST_IMAGES = 16


@dataclass(frozen=True)
class Floor:
    """The distance `value` that `label` names, for `images` a side.

    `measured_images`: how many a side it was measured with, disjoint random halves of what was kept; where
    that is fewer than `images`, `value` is extrapolated.
    """

    label: str
    value: float
    images: int
    measured_images: int

    @property
    def is_extrapolated(self) -> bool:
        """Whether there were too few images to measure it at the size of the scores."""
        return self.measured_images < self.images


@dataclass(frozen=True)
class KeptFloors:
    """Floors by metric, and what each of those metrics was measured `against` when they were computed."""

    against: Mapping[str, str]
    floors: Mapping[str, Floor]


def read_floors(run: Path) -> KeptFloors | None:
    """The floors kept in a run folder; `None` where none were computed yet or the file is damaged."""
    return kept_record(KeptFloors, _path(run))


def keep_floors(run: Path, kept: KeptFloors) -> None:
    """Write the floors into the evidence folder. Raises `RunFolderError` if that is impossible."""
    keep_record(_path(run), kept)


def _path(run: Path) -> Path:
    return RunPaths(run).floors_path


def floors_of(run: Path, *, keeps: bool = True) -> Mapping[str, Floor]:
    """Floors by metric, for `fid` and `fid-fp32` of any extractor; kept in the evidence folder if `keeps`.

    Nothing for a metric whose features were not kept, or of which there are fewer than 16.

    Raises:
        RunFolderError: if the folder is no run, or cannot be written.
    """
    fp32 = anchor_trial(read_study(run), Precision.FP32)
    if fp32 is None:
        return {}
    wanted = {score.metric: score.against for score in fp32.scores if _kind(score.metric) is not None}
    kept = read_floors(run)
    if kept is not None and kept.against == wanted:
        return kept.floors
    found = dict(_measured(RunPaths(run).evidence, fp32))
    if keeps:
        keep_floors(run, KeptFloors(wanted, found))
    return found


def floor_of_features(features: Array, images: int) -> tuple[float, int] | None:
    """Distance between two draws of `images` each from the source of features (M, D), and the size measured.

    Mean over random disjoint pairs of sets. Where M is below twice `images`, it is measured on halves and
    carried on by the power of the size, which grows from nearly 0 (M far below D) to 1 (far above): as much
    between halves and `images` as it grew from eighths to quarters to halves. On Gaussian features that came
    out up to 16 % too high, not too low. `None` for M below 16. Splits are by image: frames of one clip fall
    on both sides, as a generator's outputs may show the faces that the reference shows.
    """
    measured = min(len(features) // 2, images)
    if len(features) < LEAST_IMAGES or measured < LEAST_IMAGES // 2:
        return None
    value = _mean_distance(features, measured)
    if measured == images or value <= 0.0:
        return value, measured
    sizes = [measured // 4, measured // 2, measured]
    logs = np.log([_mean_distance(features, sizes[0]), _mean_distance(features, sizes[1]), value])
    before, last = -np.diff(logs) / np.diff(np.log(sizes))
    power = float(np.clip(2.0 * last - before, 0.0, 1.0))
    return float(value * (measured / images) ** power), measured


def _measured(evidence: Path, fp32: Trial) -> Iterator[tuple[str, Floor]]:
    own = load_evidence(evidence, fp32.number, fp32.digest_of("evidence"))
    features = {REAL: _reference_features(evidence), REDRAWN: None if own is None else own.features}
    for score in fp32.scores:
        kind = _kind(score.metric)
        found = None if kind is None else features[kind]
        # Bare names are those of Inception.
        columns = columns_of(
            {} if own is None else own.widths, extractor_name(score.metric) or inception.NAME
        )
        if kind is None or found is None or columns is None:
            continue
        parts = [part[:, columns] for part in _each_output(found, kind, evidence)]
        floor = _worst_floor(parts, kind, _images_a_side(score, kind, len(found)))
        if floor is not None:
            yield score.metric, floor


def _worst_floor(parts: Sequence[Array], kind: str, images: int) -> Floor | None:
    try:
        found = [floor_of_features(part, images) for part in parts]
    except ScoreError:
        return None
    known = [floor for floor in found if floor is not None]
    if not known:
        return None
    value, measured = max(known)
    return Floor(kind, value, images, measured)


def _each_output(features: Array, kind: str, evidence: Path) -> list[Array]:
    """Features of FP32's pictures by output: those of several that are scored lie side by side."""
    named = len(read_run_spec(evidence.parent).output.names)
    return np.split(features, max(named, 1), axis=1) if kind == REDRAWN else [features]


def _kind(metric: str) -> str | None:
    facts = facts_of(metric)
    kinds = {Role.REAL_DISTANCE: REAL, Role.FP32_DISTANCE: REDRAWN}
    return kinds.get(facts.role) if facts.is_frechet and facts.role is not None else None


def _images_a_side(score: Score, kind: str, reference_images: int) -> int:
    """Equal sides whose distance is biased as much as that of the score's two sides (1/N each)."""
    if kind == REDRAWN:
        return score.images
    return round(2.0 / (1.0 / score.images + 1.0 / reference_images))


def _reference_features(evidence: Path) -> Array | None:
    path = RunPaths(evidence.parent).reference_features_path
    if not is_as_written(path, digest_in(evidence.parent, path)):
        return None
    try:
        features: Array = read_arrays(path, ("features",))["features"]
    except (OSError, ValueError):
        return None
    return features if is_features(features) else None


def _mean_distance(features: Array, images: int) -> float:
    random = np.random.default_rng(0)
    distances = []
    for _ in range(SPLITS):
        order = random.permutation(len(features))
        first, second = order[:images], order[images : 2 * images]
        distances.append(measure_pair(features[first], features[second]).distance)
    return float(np.mean(distances))

"""Several runs side by side: what is shown of each, their labels and what differs between them."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsens.core.errors import QsensError
from qsens.core.spec import SweepSpec
from qsens.core.spec_paths import is_path
from qsens.core.trial import Study, Trial
from qsens.run.floors import Floor
from qsens.run.paths import RunPaths
from qsens.selection.budget import Budget, parse_guard
from qsens.selection.choose import Selection, limits_of
from qsens.selection.timings import Timings

LONGEST_LABEL = 40
_DIGEST = re.compile(r"[0-9a-f]{32,}")
_NO_EFFECT = "threads"
# What a map is chosen by does not tell runs apart.
_CHOOSING = ("budget", "guard", "yardsticks", "delivery")
# Which digest of a run's provenance is of the file or folder that a spec key names.
_DIGEST_NAMES = {
    "checkpoint": "generator",
    "calibration": "calibration",
    "evaluation": "evaluation",
    "reference": "reference",
}


def runs_in(folders: Sequence[Path]) -> tuple[Path, ...]:
    """The run folders among these; in place of a folder that is none, the runs that lie in it, by name."""
    found: list[Path] = []
    for folder in folders:
        held = sorted(entry for entry in folder.iterdir() if _is_run(entry)) if folder.is_dir() else []
        found += [folder] if _is_run(folder) or not held else held
    return tuple(found)


def _is_run(folder: Path) -> bool:
    return RunPaths(folder).spec_path.exists()


@dataclass(frozen=True)
class ComparedRun:
    """A run as a comparison sees it.

    `contents` are the digests and `versions` the library versions of its provenance. `missing` is how many
    planned maps have no trial yet, `None` where nobody can tell. `chosen` is the map that the run is
    represented by, `budget` the text of what it was chosen within; both `None` where none was chosen.
    `selection` says more where the comparison itself chose.
    """

    label: str
    path: Path
    study: Study
    spec: SweepSpec
    contents: Mapping[str, str]
    versions: Mapping[str, str]
    missing: int | None
    floors: Mapping[str, Floor]
    timings: tuple[Timings, ...]
    chosen: Trial | None = None
    budget: str | None = None
    selection: Selection | None = None

    @property
    def limits(self) -> Mapping[str, float]:
        """The worst acceptable scores within its budget and guard, by metric; none where it has no budget."""
        if self.budget is None:
            return {}
        try:
            found = limits_of(self.study, Budget.parse(self.budget), parse_guard(self.spec.guard), None)
        except QsensError:
            return {}
        return {
            limit.metric: limit.threshold
            for limit in found
            if not limit.is_open and math.isfinite(limit.threshold)
        }


@dataclass(frozen=True)
class Setting:
    """Something that is not the same in all runs: its name and its value in each, a dash where absent."""

    name: str
    values: tuple[str, ...]


def labels_of(paths: Sequence[Path], specs: Sequence[SweepSpec]) -> tuple[str, ...]:
    """The shortest labels that tell the runs apart: the one spec value that differs, else their folders.

    Folders of one name are told apart by as many of their parents as that takes.
    """
    folders = [path.resolve() for path in paths]
    by_folder = next(
        tails
        for count in range(1, max(len(folder.parts) for folder in folders) + 1)
        if len(set(tails := ["/".join(folder.parts[-count:]) for folder in folders])) == len(tails)
    )
    differing = [
        setting
        for setting in _spec_settings(specs)
        if setting.name not in _CHOOSING and "—" not in setting.values
    ]
    if len(differing) == 1 and len(set(differing[0].values)) == len(paths):
        by_value = [_value_label(differing[0].name, value) for value in differing[0].values]
        if max(map(len, by_value)) <= max(map(len, by_folder)) and len(set(by_value)) == len(paths):
            return tuple(by_value)
    return _shortened(by_folder)


def differing_settings(runs: Sequence[ComparedRun]) -> tuple[Setting, ...]:
    """Settings that are not the same in all runs: spec values, layers, digests of files, library versions."""
    return (
        *(entry for entry in _spec_settings([run.spec for run in runs]) if not _is_same_file(entry, runs)),
        *_settings("", [{"layers": text} for text in _layer_lists(runs)]),
        *_settings("digest of ", [_without_target(run.contents) for run in runs]),
        *_settings("version of ", [run.versions for run in runs]),
    )


def have_same_layers(runs: Sequence[ComparedRun]) -> bool:
    """Whether a boundary index means the same place in all runs."""
    return len({tuple(layer.name for layer in run.study.layers) for run in runs}) == 1


def _layer_lists(runs: Sequence[ComparedRun]) -> list[str]:
    """The number of layers, with a digest of their names where lists of one length differ."""
    names = [tuple(layer.name for layer in run.study.layers) for run in runs]
    counts = [str(len(entry)) for entry in names]
    if len(set(counts)) == len(set(names)):
        return counts
    digests = [hashlib.sha256("\n".join(entry).encode()).hexdigest()[:8] for entry in names]
    return [f"{count} (names {digest})" for count, digest in zip(counts, digests, strict=True)]


def chosen_times(runs: Sequence[ComparedRun]) -> dict[str, tuple[float | None, ...]]:
    """Median milliseconds of the runs' chosen maps, by the device that all of them were timed on."""
    by_place = [{timings.place: timings for timings in run.timings} for run in runs]
    return {
        place: tuple(_chosen_ms(run, found[place]) for run, found in zip(runs, by_place, strict=True))
        for place in by_place[0]
        if all(place in found for found in by_place)
    }


def _chosen_ms(run: ComparedRun, timings: Timings) -> float | None:
    measured = None if run.chosen is None else timings.of(run.chosen)
    return None if measured is None else measured.ms


def short_digest(text: str) -> str:
    """The text with every long hexadecimal number cut to 12 digits."""
    return _DIGEST.sub(lambda match: match[0][:12], text)


def _without_target(contents: Mapping[str, str]) -> dict[str, str]:
    """The target is a name, which the spec tells."""
    return {name: text for name, text in contents.items() if name != "target"}


def _is_same_file(setting: Setting, runs: Sequence[ComparedRun]) -> bool:
    """Whether the setting is a path under which all runs read the same bytes."""
    digests = {run.contents.get(_DIGEST_NAMES.get(setting.name, "")) for run in runs}
    return len(digests) == 1 and None not in digests


def _spec_settings(specs: Sequence[SweepSpec]) -> tuple[Setting, ...]:
    values = [_flat(spec.to_mapping()) for spec in specs]
    return _settings("", [{k: v for k, v in entry.items() if k != _NO_EFFECT} for entry in values])


def _settings(prefix: str, values: Sequence[Mapping[str, str]]) -> tuple[Setting, ...]:
    names = dict.fromkeys(name for entry in values for name in entry)
    rows = {name: [entry.get(name, "—") for entry in values] for name in names}
    return tuple(Setting(prefix + name, _shown(row)) for name, row in rows.items() if len(set(row)) > 1)


def _shown(values: Sequence[str]) -> tuple[str, ...]:
    """Values as short as keeps them apart: the end of paths, the beginning of digests."""
    short = [short_digest(value) for value in values]
    if any("/" in value for value in values):
        short = ["/".join(Path(value).parts[-2:]) if value.startswith("/") else value for value in short]
    return tuple(short) if len(set(short)) == len(set(values)) else tuple(values)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return flat


def _value_label(name: str, value: str) -> str:
    """`dense` for a placement, `student` for the path of a checkpoint, `seed 1` for a number."""
    if is_path(name, value):
        return Path(value).stem
    is_word = re.fullmatch(r"[A-Za-z][\w.+:-]*", value) is not None and value not in ("true", "false")
    return value if is_word else f"{name.replace('_', ' ').replace('.', ' ')} {value}"


def _shortened(labels: Sequence[str]) -> tuple[str, ...]:
    """Long labels lose their middle, where that leaves them apart."""
    half = (LONGEST_LABEL - 1) // 2
    short = [text if len(text) <= LONGEST_LABEL else f"{text[:half]}…{text[-half:]}" for text in labels]
    return tuple(short) if len(set(short)) == len(labels) else tuple(labels)

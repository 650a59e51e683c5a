"""The map to export, that of `qsens select` or of a named trial."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsens.core.errors import RunFolderError, SpecError
from qsens.core.maps import built_map, int8_share, map_to_ship
from qsens.core.metric_names import headline_metric
from qsens.core.precision import PrecisionMap
from qsens.core.trial import Outcome, Trial
from qsens.run.evidence import load_audit
from qsens.run.paths import RunPaths
from qsens.run.reopen import ReopenedRun
from qsens.selection.budget import Limit
from qsens.selection.choose import Selection
from qsens.selection.precision_map_file import precision_map_document, read_precision_map


@dataclass(frozen=True)
class ChosenMap:
    """A scored map to export; `document` is the content of its `precision_map.json`."""

    trial: Trial
    precision_map: PrecisionMap
    document: dict[str, Any]


def selected_map(run: ReopenedRun) -> ChosenMap:
    """The map of the run's `precision_map.json`.

    Raises:
        SpecError: if nothing was selected, or the file is not what `qsens select` wrote of this run.
    """
    path = RunPaths(run.path).precision_map_path
    if not path.exists():
        raise SpecError(
            f"no map of {run.path} has been selected",
            f"choose one first: qsens select {run.path} --budget X --write, or name a trial with --trial N",
        )
    exported = read_precision_map(path)
    number = exported.document["trial"]
    trial = next((trial for trial in run.study.trials if trial.number == number), None)
    is_of_run = exported.document["spec_digest"] == run.study.spec_digest
    if trial is None or not is_of_run or _over(run, built_map(trial)) != _over(run, exported.precision_map):
        raise SpecError(
            f"{path} does not hold the map of trial {number} of this run",
            f"only scored maps are exported; write it anew: qsens select {run.path} --budget X --write",
        )
    return ChosenMap(
        trial, map_to_ship(trial, run.study.layers, run.spec.float_precision), dict(exported.document)
    )


def map_of_trial(run: ReopenedRun, number: int) -> ChosenMap:
    """The map of one trial, whatever its scores.

    Raises:
        SpecError: if there is no such trial, or it failed.
    """
    trial = next((trial for trial in run.study.trials if trial.number == number), None)
    if trial is None:
        last = len(run.study.trials) - 1
        raise SpecError(f"{run.path} has no trial {number}", f"its trials are 0 to {last}: qsens report")
    if trial.outcome is Outcome.FAILED:
        raise SpecError(f"trial {number} failed: {trial.error}", "export a trial that was scored")
    audit = load_audit(RunPaths(run.path).evidence, number, trial.digest_of("audit"))
    document = precision_map_document(_named(run, trial), run.study, run.spec, run.provenance, audit)
    document["budget"] |= {"text": f"none: trial {number} was named", "allowance": None, "excess": None}
    shipped = map_to_ship(trial, run.study.layers, run.spec.float_precision)
    return ChosenMap(trial, shipped, document)


def chosen_maps(run: ReopenedRun, trials: Sequence[int], out: Path) -> list[tuple[ChosenMap, Path]]:
    """The maps of these trials with a folder for each: `out`, or below it where there are several.

    Without trials it is the selected map. All maps are looked up before any is returned.

    Raises:
        SpecError: if nothing was selected, or a trial is absent, has no map to ship, or is named twice.
    """
    if not trials:
        return [(selected_map(run), out)]
    if len(set(trials)) < len(trials):
        raise SpecError(f"a trial is named twice: {', '.join(map(str, trials))}", "name each trial once")
    maps = [map_of_trial(run, number) for number in trials]
    if len(maps) == 1:
        return [(maps[0], out)]
    return [(chosen, out / f"trial-{chosen.trial.number:04d}") for chosen in maps]


def _named(run: ReopenedRun, trial: Trial) -> Selection:
    """A selection without a budget: what the published form of a map is written from."""
    metric = headline_metric(run.study)
    score = trial.score(metric)
    if score is None:
        raise RunFolderError(f"trial {trial.number} has no score {metric!r}", "export another trial")
    limit = Limit(metric, score.value, 0.0, score.lower_is_better)
    return Selection(
        trial=trial,
        precision_map=built_map(trial),
        limits=(limit,),
        excess=0.0,
        damage=None,
        int8_macs_share=int8_share(run.study, trial),
        is_interval_within=None,
        ties=(),
    )


def _over(run: ReopenedRun, precision_map: PrecisionMap) -> PrecisionMap:
    return PrecisionMap.over(precision_map.assignment(layer.name for layer in run.study.layers))

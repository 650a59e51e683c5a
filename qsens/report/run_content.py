"""Content of a run folder that the report needs beside the study: chosen map, pictures, provenance."""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from qsens.calibration.recorded_calls import CallFacts
from qsens.core.errors import QsensError
from qsens.core.files import is_as_written, kept_record
from qsens.core.metric_names import headline_metric, images_needed
from qsens.core.spec import SweepSpec
from qsens.core.spec_paths import with_paths
from qsens.core.trial import Study, Trial, untried
from qsens.device.npz_sizes import read_arrays
from qsens.repair.effect import read_effect
from qsens.repair.repair import kept_stages
from qsens.report.page_content import LoopContent, RepairContent
from qsens.report.page_text import time_in_words
from qsens.run.evidence import is_pictures, samples_path
from qsens.run.floors import Floor, read_floors
from qsens.run.folder import read_provenance, read_run_spec, read_study
from qsens.run.loop import plan_maps
from qsens.run.open_plugins import open_strategy
from qsens.run.paired_errors import paired_errors
from qsens.run.paths import RunPaths
from qsens.run.start import kept_start
from qsens.run.step_errors import read_step_errors
from qsens.run.without_repair import compared_maps
from qsens.selection.answer import ship_command
from qsens.selection.budget import (
    DEFAULT_BUDGET,
    Budget,
    Limit,
    budget_example,
    parse_guard,
    stated_or_default,
)
from qsens.selection.choose import PairedError, has_scored, limit_of_points, limits_of
from qsens.selection.precision_map_file import read_precision_map
from qsens.selection.reasons import Reason, ReasonKind
from qsens.selection.timings import Timings, tables_of_run, timings_of

Array = np.ndarray[Any, np.dtype[Any]]
# As many more images as nobody would score to have an answer.
_MOST_TIMES = 100


@dataclass(frozen=True, eq=False)
class RunContent:
    """The content of the run folder `run`, read once for tables, figures and the page.

    `chosen` is the trial whose map was selected, `verdict` on what grounds, `notes` what to know beside that,
    `reasons` why each layer has its precision in it, by layer name; `command` is what to type next, `limits`
    by metric what a map must keep to; `repair` what its repair did, `loop` how damage grows along its
    loop; `samples` are pictures of all scored trials, uint8 (K, 3, H, W), 0 to 255, RGB.
    """

    run: Path
    study: Study
    chosen: Trial | None
    verdict: str
    paired_error: PairedError
    timings: tuple[Timings, ...]
    floors: Mapping[str, Floor]
    samples: Mapping[int, Array]
    reasons: Mapping[str, Reason]
    repair: RepairContent
    loop: LoopContent
    notes: Sequence[str]
    command: str
    limits: Mapping[str, Limit]


def read_run(run: Path, latency: Iterable[Path] = ()) -> RunContent:
    """Read a run folder; `latency` are more latency files, beside those in the folder.

    Raises:
        RunFolderError: if it is no run folder, holds no layers yet or is corrupt.
        SpecError: if its `precision_map.json` or a latency file is damaged, or one is of another generator.
    """
    study, paths = read_study(run), RunPaths(run)
    document = chosen_document(run, study)
    number = None if document is None else int(document["trial"])
    floors, spec = read_floors(run), _spec_or_none(run)
    return RunContent(
        run=run,
        study=study,
        chosen=next((trial for trial in study.trials if trial.number == number), None),
        verdict=advice_text(study) if document is None else verdict_text(document),
        paired_error=paired_errors(paths.evidence),
        timings=run_timings(run, study, latency),
        floors={} if floors is None else floors.floors,
        samples=sample_pictures(run, study.scored()),
        reasons=_reasons(document),
        repair=RepairContent(
            kept_stages(paths.repair_path), read_effect(paths.repair_effect_path), compared_maps(run, study)
        ),
        loop=LoopContent(kept_record(CallFacts, paths.calls_path), read_step_errors(paths.step_errors_path)),
        notes=() if document is None else document.get("notes", ()),
        command=_next_command(run, study, spec, is_chosen=document is not None),
        limits=_limits(study, spec, document),
    )


def chosen_document(run: Path, study: Study) -> Mapping[str, Any] | None:
    """The content of `precision_map.json`; `None` where there is none for a trial of this study.

    Raises:
        SpecError: if the file is there and cannot be read.
    """
    path = RunPaths(run).precision_map_path
    if not path.exists():
        return None
    document = read_precision_map(path).document
    numbers = {trial.number for trial in study.scored()}
    is_ours = document["spec_digest"] == study.spec_digest and document["trial"] in numbers
    return document if is_ours else None


def _reasons(document: Mapping[str, Any] | None) -> dict[str, Reason]:
    """The reasons that `qsens select` wrote for the layers; none in files of older versions."""
    reasons = {} if document is None else document.get("reasons", {})
    return {
        name: Reason(entry["text"], tuple(entry["trials"]), ReasonKind(entry["kind"]))
        for name, entry in reasons.items()
    }


def _spec_or_none(run: Path) -> SweepSpec | None:
    try:
        return read_run_spec(run)
    except QsensError:
        return None


def _limits(study: Study, spec: SweepSpec | None, document: Mapping[str, Any] | None) -> dict[str, Limit]:
    """The limits of the choice, or of the budget that the run has; none where its scores cannot tell them."""
    try:
        if document is not None:
            points = _allowances(document["budget"])
            found = [limit_of_points(study, metric, amount) for metric, amount in points.items()]
        elif spec is not None:
            budget = Budget.parse(stated_or_default(spec))
            found = list(limits_of(study, budget, parse_guard(spec.guard), None))
        else:
            found = []
    except QsensError:
        return {}
    return {limit.metric: limit for limit in found if not limit.is_open}


def _allowances(budget: Mapping[str, Any]) -> dict[str, float]:
    """The points that a choice allowed, by metric; without a number there is no limit."""
    entries = [
        (budget.get("guard_metric"), budget.get("guard_allowance")),
        *((other["metric"], other["allowance"]) for other in budget.get("others", ())),
        (budget["metric"], budget["allowance"]),
    ]
    return {metric: points for metric, points in entries if metric is not None and points is not None}


def _next_command(run: Path, study: Study, spec: SweepSpec | None, *, is_chosen: bool) -> str:
    """The command that ships the chosen map, or chooses one; empty where nothing was scored."""
    path = _shown_path(run)
    if is_chosen:
        return ship_command(path, None if spec is None else spec.target)
    if not study.metrics:
        return ""
    example = budget_example(headline_metric(study)).partition(" (")[0]
    return f"qsens select {path} {example} --write"


def _shown_path(run: Path) -> str:
    """The run as one types it here; elsewhere its name, as a page is passed on."""
    here = Path.cwd()
    shown = run.resolve()
    return shlex.quote(str(shown.relative_to(here) if shown.is_relative_to(here) else shown.name))


def advice_text(study: Study) -> str:
    """The way to choose a map, in words that fit the scores of the run."""
    if not study.metrics:
        return "Nothing was scored yet: let the sweep run on."
    if has_scored(study, DEFAULT_BUDGET):
        alike = f"; --budget {DEFAULT_BUDGET} allows what that alteration costs FP32's pictures"
    else:
        alike = ""
    return f"Choose one with a budget: {budget_example(headline_metric(study))}{alike}."


def verdict_text(document: Mapping[str, Any]) -> str:
    """On what grounds the map was chosen, as a sentence."""
    budget = document["budget"]
    latency = document.get("latency")
    target = document["settings"].get("target")
    most = "The most INT8" if target is None else f"The most INT8 that {target} runs"
    what = most if latency is None else _what_was_sought(latency)
    names = [budget["metric"], *(other["metric"] for other in budget.get("others", ()))]
    text = f"{what} within a budget of {budget['text']} on {' and '.join(names)}"
    if latency is not None and latency["limit_ms"] is not None and budget["allowance"] is None:
        return f"{what}."
    if budget.get("guard_metric"):
        text += f", guarded by {budget['guard_metric']}"
    within = {
        True: "; the 95% interval lies within the budget too.",
        False: f"; the 95% interval reaches beyond the budget{_enough(document)}.",
    }
    return text + within.get(budget["is_interval_within"], ".")


def _enough(document: Mapping[str, Any]) -> str:
    """The way to put the interval within the budget, if the score stays what it is."""
    budget = document["budget"]
    scores = {entry["metric"]: entry for entry in document["scores"]["chosen"]}
    score = scores.get(budget["metric"])
    if score is None or budget["excess"] is None or budget["excess"] >= 0:
        return ": score more images"
    error = score["difference_standard_error"] or score["standard_error"]
    if not error:
        return ": score more images"
    needed = images_needed(error, score["images"], -budget["excess"])
    if needed > _MOST_TIMES * score["images"]:
        return ": the score is so near to the limit that more images would hardly tell"
    return f": score more images, about {needed:,} instead of {score['images']:,} (--evaluation-samples)"


def _what_was_sought(latency: Mapping[str, Any]) -> str:
    place = f"{latency['device']}, {latency['runtime']}, batch {latency['batch']}"
    if latency["limit_ms"] is not None:
        return f"The best score within {latency['limit_ms']:g} ms on {place}"
    found = (
        "INT8 does not pay there: the fastest map" if latency["does_int8_pay"] is False else "The fastest map"
    )
    return f"{found} on {place} ({latency['median_ms']:.4g} ms)"


def run_timings(run: Path, study: Study, files: Iterable[Path] = ()) -> tuple[Timings, ...]:
    """Measured times of the run's maps: from the files in its folder `latency`, then from `files`.

    Raises:
        SpecError: for a file that cannot be read or is of another generator, with both named.
    """
    try:
        graph = read_provenance(run).contents.get("graph")
    except QsensError:
        graph = None
    tables = tables_of_run(run, study, graph, files)
    return tuple(timings_of(study, table, batch) for table in tables for batch in table.batches)


class SamplePictures(Mapping[int, Array]):
    """Pictures by trial number, uint8 (K, 3, H, W), 0 to 255, RGB; read from disk each time, few at once."""

    def __init__(self, paths: Mapping[int, Path]) -> None:
        self._paths = paths

    def __getitem__(self, number: int) -> Array:
        return _read_pictures(self._paths[number])

    def __iter__(self) -> Iterator[int]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def sample_pictures(run: Path, trials: Iterable[Trial]) -> SamplePictures:
    """The pictures of those trials that the folder has; damaged, missing and other files are left out."""
    folder, found = RunPaths(run).samples, {}
    for trial in trials:
        path = samples_path(folder, trial.number)
        try:
            if is_as_written(path, trial.digest_of("samples")) and is_pictures(_read_pictures(path)):
                found[trial.number] = path
        except (OSError, ValueError):
            continue
    return SamplePictures(found)


def _read_pictures(path: Path) -> Array:
    images: Array = read_arrays(path, ("images",))["images"]
    return images


def missing_maps(run: Path, study: Study) -> int | None:
    """The number of planned maps without a trial.

    `None` where the strategy is not to be had, or where scores decide what follows the maps that are there.
    """
    try:
        plan = plan_maps(study.layers, open_strategy(read_run_spec(run), kept_start(run)))
    except QsensError:
        return None
    missing = len(untried(plan.maps, study.trials))
    return missing if missing or plan.is_complete else None


def provenance_groups(run: Path, study: Study) -> dict[str, dict[str, str]]:
    """Titled names and values that say how the numbers came about; absent files leave their group out."""
    groups: dict[str, dict[str, str]] = {}
    try:
        groups["Command and spec"] = _spec_pairs(read_run_spec(run), run)
    except QsensError as error:
        groups["Command and spec"] = {"spec.toml": f"cannot be read: {error.message}"}
    groups["Scores"] = _score_pairs(study)
    try:
        provenance = read_provenance(run)
    except QsensError:
        return groups
    read = {} if provenance.weights_read is None else {"weights": provenance.weights_read}
    groups["Read from disk"] = {"begun": _begun(provenance.created), **read, **provenance.contents}
    groups["Versions"] = dict(provenance.versions)
    return groups


def _begun(created: str) -> str:
    try:
        return time_in_words(datetime.fromisoformat(created))
    except ValueError:
        return created


def _spec_pairs(spec: SweepSpec, run: Path) -> dict[str, str]:
    command = f"qsens sweep --spec {run.name}/spec.toml --out {run.name}"
    pairs = {"command": command, "digest": spec.digest}
    for key, value in with_paths(spec.to_mapping(), _short_path).items():
        if value not in ({}, []):
            pairs[key] = value if isinstance(value, str) else json.dumps(value)
    return pairs


def _short_path(path: Path) -> str:
    """The last two parts: a page that is passed on need not show where its author keeps files."""
    return str(path if len(path.parts) <= 2 else Path("…", *path.parts[-2:]))


def _score_pairs(study: Study) -> dict[str, str]:
    pairs = {}
    for metric in study.metrics:
        scores = [score for trial in study.scored() if (score := trial.score(metric)) is not None]
        if scores:
            pairs[metric] = f"{scores[0].images} images, against {scores[0].against}"
    return pairs

"""The chosen map of an earlier run as the point that a new run starts from; the new run keeps it."""

from collections.abc import Iterator
from pathlib import Path

from qsens.core.errors import RunFolderError, SpecError
from qsens.core.files import is_as_written, write_atomically
from qsens.core.layer import Layer
from qsens.core.maps import IsolationKind, isolations_of, map_to_ship
from qsens.core.precision import Precision
from qsens.core.spec import SweepSpec
from qsens.core.start import KnownUse, MappedLayer, StartingPoint
from qsens.core.trial import Study, Trial
from qsens.device.errors import reason_of
from qsens.device.plain_values import parse_json
from qsens.device.special_files import read_file
from qsens.run.folder import digest_in, read_run_spec, read_study
from qsens.run.paths import RunPaths
from qsens.search.budget_use import BudgetShare, BudgetUse
from qsens.selection.budget import Budget, parse_guard, stated_or_default
from qsens.selection.precision_map_file import read_precision_map


def start_of_sweep(spec: SweepSpec, out: Path | None = None) -> StartingPoint | None:
    """The point that a sweep into the folder `out` starts from; `None` where it starts from nothing.

    A run that has begun goes on from what it kept, also where the earlier run is gone.

    Raises:
        RunFolderError, SpecError: if the earlier run is no run, or has chosen no map.
    """
    if spec.start_from is None:
        return None
    kept = None if out is None else kept_start(out)
    return kept or _start_of_run(Path(spec.start_from), spec)


def kept_start(run: Path) -> StartingPoint | None:
    """The point that a run has kept; `None` where it has none, or the file is not the one it wrote.

    Raises:
        RunFolderError: if the file cannot be read.
    """
    path = RunPaths(run).start_path
    if not path.exists() or not is_as_written(path, digest_in(run, path)):
        return None
    try:
        return StartingPoint.from_json(parse_json(read_file(path)))
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"cannot read {path}: {reason_of(error)}", "delete it: the same sweep writes it anew"
        ) from error


def keep_start(run: Path, start: StartingPoint | None) -> None:
    """Write the point that a run starts from into its folder, once. Raises `RunFolderError`."""
    path = RunPaths(run).start_path
    if start is not None and not path.exists():
        write_atomically(path, start.to_json().encode())


def check_start(start: StartingPoint | None, layers: tuple[Layer, ...]) -> None:
    """Refuse to start from a run of another network. Raises `SpecError`."""
    if start is not None and not start.matches(layers):
        raise SpecError(
            f"no layer of {start.run} is in this network, its first is {start.layers[0].name!r}, here it is "
            f"{layers[0].name!r}",
            "layers are matched by name: start from a run of the same network, or leave --start-from out",
        )


def _start_of_run(run: Path, spec: SweepSpec) -> StartingPoint:
    """The chosen map of a run, and the uses of the budget of `spec`, else of its own, that it knows."""
    study, own = read_study(run), read_run_spec(run)
    path = RunPaths(run).precision_map_path
    if not path.exists():
        raise SpecError(
            f"the run {run} has chosen no map to start from",
            f"choose one: qsens select {run} --budget X --write",
        )
    number = read_precision_map(path).document["trial"]
    trial = next((trial for trial in study.trials if trial.number == number), None)
    if trial is None:
        raise SpecError(
            f"{path} is of trial {number}, which {run} does not have",
            f"write it anew: qsens select {run} --budget X --write",
        )
    shipped = map_to_ship(trial, study.layers, own.float_precision)
    mapped = tuple(MappedLayer(layer.name, shipped[layer.name]) for layer in study.layers)
    earlier = kept_start(run)
    uses = {use.layers: use for use in (earlier.uses if earlier else ())}
    uses |= {use.layers: use for use in _measured_uses(study, _budget_use(study, spec, own))}
    return StartingPoint(run.name, mapped, tuple(uses.values()))


def _budget_use(study: Study, spec: SweepSpec, own: SweepSpec) -> BudgetUse:
    """By the budget of the new run; by that of the earlier one where it has not scored that."""
    try:
        return _use_by(study, spec)
    except SpecError:
        return _use_by(study, own)


def _use_by(study: Study, spec: SweepSpec) -> BudgetUse:
    budget = Budget.parse(stated_or_default(spec))
    return BudgetUse.of_run(study.layers, study.trials, budget, parse_guard(spec.guard))


def _measured_uses(study: Study, use: BudgetUse) -> Iterator[KnownUse]:
    """The use of each unit that was tried alone in INT8, beyond that of FP16."""
    floats = study.anchors[Precision.FP16]
    for trial in study.trials:
        alone = isolations_of(trial.requested, study.layers)
        if not any(one.kind is IsolationKind.ONLY_INT8 for one in alone):
            continue
        found, base = _uses(use, trial, floats)
        if found is None or base is None or found.share == float("inf"):
            continue
        names = [layer.name for layer in study.layers if trial.requested[layer.name] is Precision.INT8]
        yield KnownUse(tuple(names), max(found.share - base.share, 0.0), found.error)


def _uses(use: BudgetUse, trial: Trial, floats: Trial) -> tuple[BudgetShare | None, BudgetShare | None]:
    """The use of a trial and that of the float map on the same samples."""
    full = use.full(trial)
    if full is not None:
        return full, use.full(floats)
    return use.screened(trial), use.screened(floats) or use.full(floats)

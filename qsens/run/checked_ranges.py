"""The calibration of a sweep, with a check of the ranges on some of the samples that it scores."""

from qsens.calibration.range_check import (
    CHECKED_SAMPLES,
    check_key,
    check_ranges,
    read_range_check,
    save_range_check,
)
from qsens.calibration.splits import spread_places
from qsens.core.interfaces import Progress
from qsens.engines.lowering.plan import LoweringPlan
from qsens.run.evaluate import calibrated_workload
from qsens.run.open import OpenedSweep
from qsens.run.paths import RunPaths
from qsens.run.stages import Workload


def checked_workload(opened: OpenedSweep, folder: RunPaths, progress: Progress) -> Workload:
    """The calibrated workload of a run; the check of its ranges is kept in the run folder.

    Raises:
        DataError: if a sample cannot be read.
        RunFolderError: if the check cannot be written.
    """
    workload = calibrated_workload(opened, folder, progress)
    samples, path = workload.samples, folder.range_check_path
    kept = read_range_check(path)
    if kept is None or kept.key != check_key(workload.ranges, samples):
        observer = workload.plan.observer(workload.options.placement, opened.spec.threads)
        places = spread_places(len(samples), CHECKED_SAMPLES)
        layers = _layers_by_tensor(workload.plan)
        save_range_check(path, check_ranges(observer, workload.ranges, samples, places, layers))
    return workload


def _layers_by_tensor(plan: LoweringPlan) -> dict[str, list[str]]:
    """The layers that read a tensor; those that make it where none does."""
    readers: dict[str, list[str]] = {}
    makers: dict[str, list[str]] = {}
    for layer, operation in plan.operations.items():
        for tensor in filter(None, (operation.data, operation.skip)):
            readers.setdefault(tensor, []).append(layer)
        makers.setdefault(operation.result, []).append(layer)
    return makers | readers

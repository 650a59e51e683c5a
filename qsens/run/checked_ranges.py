"""The calibration of a sweep, with a check of the ranges on some of the samples that it scores."""

from dataclasses import replace

from qsens.calibration.plays import ONCE, spans
from qsens.calibration.range_check import (
    CHECKED_SAMPLES,
    check_key,
    check_ranges,
    read_range_check,
    save_range_check,
)
from qsens.calibration.splits import SampleView, spread_places
from qsens.core.interfaces import Hear, Progress, SampleSet
from qsens.engines.lowering.plan import LoweringPlan
from qsens.run.calibrated_graph import calibrated_graph
from qsens.run.evaluate import workload_of
from qsens.run.loop import silent
from qsens.run.looped import recorded
from qsens.run.open import OpenedSweep
from qsens.run.paths import RunPaths
from qsens.run.stages import Workload


def checked_workload(opened: OpenedSweep, folder: RunPaths, progress: Progress, hear: Hear) -> Workload:
    """The calibrated workload of a run; the check of its ranges is kept in the run folder.

    `hear` is told what was done to repair INT8.

    Raises:
        DataError: if a sample cannot be read.
        RunFolderError: if the check cannot be written.
    """
    calibrated = calibrated_graph(opened, folder, progress, hear)
    workload = workload_of(opened, calibrated, folder, progress)
    samples, path = workload.samples, folder.range_check_path
    kept = read_range_check(path)
    if kept is None or kept.key != check_key(workload.ranges, samples):
        observer = workload.plan.observer(workload.options.placement, opened.spec.threads)
        feeds = _feeds_to_check(opened)
        places = spread_places(len(feeds), CHECKED_SAMPLES)
        layers = _layers_by_tensor(workload.plan)
        check = check_ranges(observer, workload.ranges, feeds, places, layers)
        save_range_check(path, replace(check, key=check_key(workload.ranges, samples)))
    return workload


def _feeds_to_check(opened: OpenedSweep) -> SampleSet:
    """The evaluation samples, or the calls that a loop makes of the first of them."""
    samples, loop = opened.evaluation, opened.loop
    if loop is ONCE:
        return samples
    return recorded(opened, SampleView(samples, spans(samples, 1, loop)[0], ", to check ranges"), silent)


def _layers_by_tensor(plan: LoweringPlan) -> dict[str, list[str]]:
    """The layers that read a tensor; those that make it where none does."""
    readers: dict[str, list[str]] = {}
    makers: dict[str, list[str]] = {}
    for layer, operation in plan.operations.items():
        for tensor in filter(None, (operation.data, operation.skip)):
            readers.setdefault(tensor, []).append(layer)
        makers.setdefault(operation.result, []).append(layer)
    return makers | readers

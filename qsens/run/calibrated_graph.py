"""A sweep's graph with the ranges and options that its maps are lowered with."""

from dataclasses import dataclass, field, replace

from qsens.calibration.measure import measure_ranges, promised_ranges
from qsens.calibration.ranges import Ranges
from qsens.calibration.shared_samples import (
    SharedSamples,
    places_apart,
    read_shared_samples,
    save_shared_samples,
    shared_key,
    shared_samples,
)
from qsens.calibration.splits import SampleView
from qsens.core.interfaces import Hear, Progress, unheard
from qsens.core.precision import PrecisionMap
from qsens.core.spec import SweepSpec
from qsens.engines.lowering.lower import LoweredGraph, lower_graph
from qsens.engines.lowering.plan import LoweringOptions, LoweringPlan
from qsens.graph.graph import Graph
from qsens.repair.effect import effect_of
from qsens.repair.stages import Subject, make_repair
from qsens.run.looped import apart_places, calibration_feeds, kept_promises
from qsens.run.open import OpenedSweep, lowering_options
from qsens.run.paths import RunPaths


@dataclass(frozen=True, eq=False)
class CalibratedGraph:
    """A graph whose maps can be lowered."""

    spec: SweepSpec
    plan: LoweringPlan
    ranges: Ranges = field(repr=False)
    options: LoweringOptions

    @property
    def graph(self) -> Graph:
        """The prepared graph."""
        return self.plan.graph

    def lower(self, precision_map: PrecisionMap, flavour: str = "exact") -> LoweredGraph:
        """The graph of a map in a flavour: `exact`, `strong`, `weak` or `u8`. Raises `BuildError`."""
        return lower_graph(self.plan, precision_map, self.ranges, self.options, flavour=flavour)


def calibrated_graph(
    job: OpenedSweep, folder: RunPaths, progress: Progress, hear: Hear = unheard
) -> CalibratedGraph:
    """Calibrate and repair, or read what an earlier run left in the folder. Raises as `measure_ranges`."""
    measured, spec = measured_graph(job, folder, progress), job.spec
    shared, feeds = _shared_samples(job, folder, progress), calibration_feeds(job, folder, progress)
    subject = Subject(
        measured.plan,
        measured.ranges,
        measured.options,
        SampleView(feeds, apart_places(feeds, places_apart(shared)), ", apart from the evaluation set"),
        spec.output,
        spec.threads,
        progress,
        apart_from=job.evaluation.digest if shared.places else None,
        hear=hear,
    )
    repair = make_repair(subject, spec.stages_of_repair, folder.repair_path)
    effect_of(subject, repair, folder.repair_effect_path)
    plan, ranges = repair.applied(measured.plan, measured.ranges)
    return replace(measured, plan=plan, ranges=ranges)


def _shared_samples(job: OpenedSweep, folder: RunPaths, progress: Progress) -> SharedSamples:
    """The samples that both sets hold, read from the folder if it is there, else found and written."""
    kept = read_shared_samples(folder.shared_samples_path)
    if kept is not None and kept.key == shared_key(job.calibration, job.evaluation):
        return kept
    spec = job.spec
    are_of_one_set = spec.evaluation in (None, spec.calibration)
    found = shared_samples(job.calibration, job.evaluation, are_of_one_set=are_of_one_set, progress=progress)
    save_shared_samples(folder.shared_samples_path, found)
    return found


def measured_graph(job: OpenedSweep, folder: RunPaths, progress: Progress) -> CalibratedGraph:
    """The same before any repair, which changes no kernel that a layer runs in."""
    spec, plan = job.spec, LoweringPlan.of(job.graph)
    options = lowering_options(spec)
    feeds = calibration_feeds(job, folder, progress)
    ranges = measure_ranges(
        plan.observer(options.placement, spec.threads),
        feeds,
        spec,
        promised=kept_promises(promised_ranges(job.calibration, job.evaluation), feeds, job.loop),
        path=folder.ranges_path,
        progress=progress,
    )
    return CalibratedGraph(spec, plan, ranges, options)

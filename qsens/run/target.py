"""A sweep for a target: what it cannot run in INT8 is not offered, and maps are scored as they ship."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from qsens.core.errors import BuildError, QsensError, SpecError, VerificationError
from qsens.core.interfaces import Progress
from qsens.core.layer import Layer, macs_share, uniform_map
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.targets import DeclaredTarget, Target, declared_targets, target_named
from qsens.device.leftovers import temporary_folder
from qsens.engines.float_fallback import AgreedGraph, Drafting, ReturnedLayer, agreed_graph
from qsens.engines.lowering.lower import unfit_layers
from qsens.graph.graph import Graph
from qsens.run.calibrated_graph import CalibratedGraph, measured_graph
from qsens.run.folder import read_layers
from qsens.run.open import OpenedSweep
from qsens.run.paths import RunPaths
from qsens.scoring.pictures import picture_output

MOST_SHOWN = 12


class TargetMaps:
    """Maps of one graph as a target runs them: `shipped` builds the engine that `qsens export` would.

    `problem` says why this machine cannot build it; then a map is only lowered.
    """

    def __init__(self, declared: DeclaredTarget, calibrated: CalibratedGraph) -> None:
        self.target: Target = declared.target
        self.problem = declared.problem
        self._calibrated = calibrated

    def shipped(self, requested: PrecisionMap) -> AgreedGraph:
        """The part of a map that ships, and what its engine says of the layers.

        Raises:
            BuildError: if the target cannot take it.
            VerificationError: for layers that may neither run in INT8 nor be taken back.
        """
        graph = self._calibrated.graph
        inputs = {
            entry.name: graph.example[entry.name]
            if entry.is_batched
            else graph.example[entry.name][np.newaxis]
            for entry in graph.inputs
        }
        picture = picture_output(graph.example_outputs, self._calibrated.spec.output)
        with temporary_folder() as folder:
            drafting = Drafting(self._calibrated, self.target, folder, 1, inputs, picture)
            return agreed_graph(drafting, requested, builds=self.problem is None)

    def scored_map(self, requested: PrecisionMap) -> PrecisionMap:
        """The map to score for one that was asked for: what ships of it; FP32 is what all compare with.

        Raises:
            BuildError: for a map that cannot ship.
        """
        if requested == PrecisionMap(Precision.FP32):
            return requested
        try:
            return self.shipped(requested).deployed
        except VerificationError as error:
            raise BuildError(error.message, error.hint) from error


def fitted_to_target(job: OpenedSweep, folder: RunPaths, progress: Progress) -> OpenedSweep:
    """The sweep, its layers that its target cannot run in INT8 held in float; as it is without a target.

    A run that has begun keeps the layers that it began with, whatever the target's runtime says today.

    Raises:
        SpecError: for a layer that is pinned to INT8 and has no kernel, or where no layer has one.
        BuildError: for a graph that the target cannot take at all.
    """
    if folder.layers_path.exists():
        return replace(job, graph=recorded_graph(job.graph, read_layers(folder.layers_path)))
    if job.spec.target is None:
        return job
    return fitted(job, measured_graph(job, folder, progress))


def fitted(job: OpenedSweep, calibrated: CalibratedGraph) -> OpenedSweep:
    """`fitted_to_target` with ranges at hand, for a sweep that begins. Raises as that."""
    if job.spec.target is None:
        return job
    declared = target_named(job.spec.target)
    refused = _refused(declared, calibrated)
    graph = _held_in_float(job.graph, refused)
    if refused and not any(Precision.INT8 in layer.allowed for layer in graph.layers):
        reason = next(iter(refused.values()))
        raise SpecError(
            f"none of the {len(refused)} layers can run in INT8: {reason}",
            placement_hint(declared.target, job.spec.placement, job.graph.layers)
            or "sweep for another target, or without --for",
        )
    return replace(job, graph=graph)


def _refused(declared: DeclaredTarget, calibrated: CalibratedGraph) -> dict[str, str]:
    """The reason by name of each layer that the target cannot run in INT8."""
    flavour = declared.target.flavour
    int8 = uniform_map(calibrated.graph.layers, Precision.INT8)
    unfit = unfit_layers(calibrated.plan, int8, calibrated.ranges, calibrated.options, flavour)
    refused = {name: f"{declared.target.name} cannot hold it: {reason}" for name, reason in unfit.items()}
    _check_pins(calibrated.graph.layers, refused)
    graph = _held_in_float(calibrated.graph, refused)
    calibrated = replace(calibrated, plan=replace(calibrated.plan, graph=graph))
    maps = TargetMaps(declared, calibrated)
    try:
        agreed = maps.shipped(uniform_map(calibrated.graph.layers, Precision.INT8))
    except VerificationError as error:
        raise SpecError(error.message, error.hint) from error
    return refused | {entry.layer: entry.reason for entry in agreed.returned}


def _check_pins(layers: Sequence[Layer], refused: dict[str, str]) -> None:
    only_int8 = frozenset({Precision.INT8})
    for layer in layers:
        if layer.name in refused and layer.allowed == only_int8:
            raise SpecError(
                f"layer {layer.name!r} is pinned to INT8, and {refused[layer.name]}",
                "leave out the pin that says so, or take another target",
            )


def _held_in_float(graph: Graph, refused: dict[str, str]) -> Graph:
    layers = tuple(
        replace(layer, allowed=layer.allowed - {Precision.INT8}, float_reason=refused[layer.name])
        if layer.name in refused
        else layer
        for layer in graph.layers
    )
    return replace(graph, layers=layers)


def recorded_graph(graph: Graph, recorded: Sequence[Layer]) -> Graph:
    """The graph of a run that has begun, those layers held in float that the run holds there.

    `recorded` are the layers of the run folder; of other differences they say nothing here.
    """
    before = {layer.name: layer for layer in recorded}
    layers = tuple(_as_recorded(layer, before.get(layer.name, layer)) for layer in graph.layers)
    return replace(graph, layers=layers)


def _as_recorded(layer: Layer, recorded: Layer) -> Layer:
    if not layer.float_reason and not recorded.float_reason:
        return layer
    return replace(layer, allowed=recorded.allowed, float_reason=recorded.float_reason)


def target_maps(job: OpenedSweep, calibrated: CalibratedGraph) -> TargetMaps | None:
    """The maps of a sweep as its target runs them; `None` where it has none."""
    if job.spec.target is None:
        return None
    return TargetMaps(target_named(job.spec.target), calibrated)


def placement_hint(target: Target, placement: str, layers: Sequence[Layer]) -> str:
    """A sentence on the placement that would keep more of these layers in INT8; empty where none would."""
    if target.placement in ("", placement) or all(layer.kind in target.without_int8 for layer in layers):
        return ""
    return (
        f"{target.title} runs a layer in INT8 only where its result is quantized too: "
        f"a sweep with --placement {target.placement} keeps more of them"
    )


def target_notes(job: OpenedSweep) -> list[str]:
    """Lines about the target of a fitted sweep: what is not offered, or that it could not be asked."""
    if job.spec.target is None:
        return []
    declared = target_named(job.spec.target)
    notes = []
    if declared.problem is not None:
        notes.append(
            f"Warning: {declared.target.title} could not be asked which layers it runs in INT8: "
            f"{declared.problem}. All are offered; verify.py of the bundle asks it on the device"
        )
    held = [layer for layer in job.graph.layers if layer.float_reason]
    if held:
        notes.append(f"Note: {len(held)} of {len(job.graph.layers)} layers are not offered in INT8:")
        notes += [f"  {layer.name} ({layer.node}): {layer.float_reason}" for layer in held[:MOST_SHOWN]]
        notes += [f"  and {len(held) - MOST_SHOWN} more: layers.csv"] if len(held) > MOST_SHOWN else []
        hint = placement_hint(declared.target, job.spec.placement, held)
        notes += [f"  {hint}"] if hint else []
    return notes


@dataclass(frozen=True)
class Survival:
    """The part of a map that stays in INT8 on a target that it was not searched for.

    Shares are of the layers' multiply-accumulates, 0 to 1; `left` is `None` where `problem` says why the
    target could not tell. `returned` are the layers that it would run in float.
    """

    target: str
    asked: float
    left: float | None
    returned: tuple[ReturnedLayer, ...] = ()
    problem: str = ""


def survivals(calibrated: CalibratedGraph, chosen: PrecisionMap) -> tuple[Survival, ...]:
    """The part of a map that each target that can be built for here would leave, without scoring anything."""
    layers = calibrated.graph.layers
    asked = macs_share(layers, chosen, Precision.INT8)
    found = []
    for name, declared in declared_targets().items():
        if declared.problem is not None:
            continue
        try:
            agreed = TargetMaps(declared, calibrated).shipped(chosen)
        except QsensError as error:
            found.append(Survival(name, asked, None, problem=error.message))
            continue
        left = macs_share(layers, agreed.deployed, Precision.INT8)
        found.append(Survival(name, asked, left, agreed.returned))
    return tuple(found)

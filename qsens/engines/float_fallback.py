"""Lowers a map until the engine runs what is written down: layers without INT8 kernels go back to float."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx

from qsens.core.errors import BuildError, VerificationError
from qsens.core.layer import Layer
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import SweepSpec
from qsens.core.targets import Target
from qsens.device.audit import AskedLayer, LayerAudit, audit_layers, mismatches
from qsens.device.bundle_files import MODEL, Bounds, Bundle, BundleInput
from qsens.device.errors import DeviceError
from qsens.device.goldens import batch_of
from qsens.device.open_engine import open_engine
from qsens.engines.first_run import may_crash, refuse_crash
from qsens.engines.lowering.lowered_graph import LoweredGraph, asked_layers, with_fixed_inputs
from qsens.engines.lowering.plan import LoweringPlan, Placement
from qsens.engines.lowering.qdq import NOTE, without_tail_clips
from qsens.graph.graph import Graph
from qsens.graph.topology import fused_chain

# Protobuf cannot serialise more; larger weights lie in a file beside the graph.
LARGEST_MESSAGE = 2**31 - 2**20
WEIGHTS_FILE = f"{MODEL}.data"
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class ReturnedLayer:
    """A layer that was to be INT8 and is exported in float, and why."""

    layer: str
    node: str
    precision: Precision
    reason: str


@dataclass(frozen=True)
class AuditedEngine:
    """The engine that the runtime of this machine made of the exported graph, with its audit."""

    runtime: str
    version: str
    size_bytes: int
    audit: tuple[LayerAudit, ...]


@dataclass(frozen=True, eq=False)
class AgreedGraph:
    """The graph to ship, and sentences about it that a reader must know.

    `engine` is `None` where the target's runtime cannot build here.
    """

    lowered: LoweredGraph
    returned: tuple[ReturnedLayer, ...]
    engine: AuditedEngine | None
    notes: tuple[str, ...] = ()

    @property
    def deployed(self) -> PrecisionMap:
        """The map that the graph was lowered with."""
        return self.lowered.requested


class LowersMaps(Protocol):
    """A run, as far as its maps are lowered: one that is under way, or one that was opened again."""

    @property
    def spec(self) -> SweepSpec: ...

    @property
    def graph(self) -> Graph: ...

    @property
    def plan(self) -> LoweringPlan: ...

    def lower(self, precision_map: PrecisionMap, flavour: str = ...) -> LoweredGraph: ...


@dataclass(frozen=True, eq=False)
class Drafting:
    """The surroundings of a map that is lowered, built and audited: run, target, folder, batch, samples.

    `inputs` are golden inputs by name, samples first. `picture` is the output that is looked at.
    """

    run: LowersMaps
    target: Target
    folder: Path
    batch: int
    inputs: Mapping[str, Array]
    picture: str

    @property
    def fixed(self) -> dict[str, Array]:
        """The value of each input that becomes a constant: one for all samples, by rule.

        An input with a batch axis stays: a constant has the size of one batch.
        """
        if not self.target.fixes_constants:
            return {}
        rules = dict(self.run.spec.inputs)
        return {
            entry.name: self.inputs[entry.name][0]
            for entry in self.run.graph.inputs
            if not entry.is_batched and entry.name in rules and rules[entry.name].source == "constant"
        }

    def bundle(self, lowered: LoweredGraph, requested: PrecisionMap, bounds: Bounds) -> Bundle:
        """The bundle in the making, as the device code wants it."""
        graph = lowered.graph
        return Bundle(
            folder=self.folder,
            runtime=self.target.runtime,
            flavour=str(self.target.flavour),
            batch=self.batch,
            inputs=tuple(
                BundleInput(entry.name, entry.dtype, self.inputs[entry.name].shape[1:], entry.is_batched)
                for entry in graph.inputs
            ),
            outputs=graph.outputs,
            picture=self.picture,
            value_range=self.run.spec.output.pixel_range,
            asked=_asked(lowered, requested),
            float_pins=lowered.float_pins,
            bounds=bounds,
            document={},
            opened_by=self.target.opened_by,
        )


def agreed_graph(
    drafting: Drafting, requested: PrecisionMap, *, builds: bool, strict: bool = False
) -> AgreedGraph:
    """Lower a map and write `model.onnx`; build and audit it, and lower again until the engine agrees.

    Raises:
        VerificationError: if it does not agree: with `strict` at once, else where a float layer runs in
            something else, or a layer that only INT8 is allowed for has no INT8 kernel.
        BuildError: if the runtime refuses the graph.
    """
    returned: list[ReturnedLayer] = []
    deployed = requested
    while True:
        lowered, notes = _lowered(drafting, deployed)
        write_model(lowered, drafting.folder / MODEL, drafting.target)
        if not builds:
            return AgreedGraph(lowered, (), None, notes)
        engine = _audited(drafting, lowered, requested)
        wrong = mismatches(engine.audit)
        if not wrong:
            return AgreedGraph(lowered, _in_order(returned, lowered), engine, notes)
        _refuse(wrong, drafting.target, strict=strict)
        found = [_returned(row, drafting) for row in wrong]
        changes = {entry.layer: entry.precision for entry in found}
        names = [layer.name for layer in lowered.graph.layers]
        deployed = PrecisionMap.over({**deployed.assignment(names), **changes})
        returned += found


def _lowered(drafting: Drafting, deployed: PrecisionMap) -> tuple[LoweredGraph, tuple[str, ...]]:
    lowered = drafting.run.lower(deployed, drafting.target.flavour)
    fixed = drafting.fixed
    notes = tuple(_fixed_note(name, value) for name, value in fixed.items())
    lowered = with_fixed_inputs(lowered, fixed) if fixed else lowered
    if drafting.target.fuses_clips:
        return lowered, notes
    unclipped = without_tail_clips(lowered)
    return unclipped, notes if unclipped is lowered else (*notes, NOTE)


def _fixed_note(name: str, value: Array) -> str:
    text = np.array2string(value, threshold=8, separator=", ")
    return f"The generator's input `{name}` is a constant of `{MODEL}`: {text}, as in the sweep."


def write_model(lowered: LoweredGraph, path: Path, target: Target) -> None:
    """Write the graph; weights beyond what one message can hold go to a file beside it.

    Raises:
        BuildError: for such weights and a target whose parser takes one message.
    """
    model = lowered.detached
    size_bytes = model.skeleton.ByteSize() + sum(value.nbytes for value in model.weights.values())
    weights = path.with_name(WEIGHTS_FILE)
    weights.unlink(missing_ok=True)
    if size_bytes < LARGEST_MESSAGE:
        onnx.save(model.attached(), path)
    elif not target.takes_large_graphs:
        raise BuildError(
            f"the graph has {size_bytes / 2**30:.1f} GiB, more than the parser of {target.title} takes",
            "export for openvino or onnxruntime, or a smaller generator",
        )
    else:
        onnx.save(model.attached(), path, save_as_external_data=True, location=weights.name)


def _audited(drafting: Drafting, lowered: LoweredGraph, requested: PrecisionMap) -> AuditedEngine:
    bundle = drafting.bundle(lowered, requested, Bounds(0.0, 0.0))
    feed = batch_of(drafting.inputs, bundle.inputs, 0, bundle.batch)
    if may_crash(lowered.graph.layers):
        refuse_crash(bundle, feed)
    try:
        engine = open_engine(bundle)
        try:
            # Some runtimes compile, and can be audited, when shapes are first run.
            engine.run(feed)
            audit = audit_layers(bundle.asked, engine.executed_layers())
        finally:
            engine.close()
    except DeviceError as error:
        raise BuildError(error.message, error.hint) from error
    return AuditedEngine(engine.runtime, engine.version, engine.size_bytes, audit)


def _asked(lowered: LoweredGraph, requested: PrecisionMap) -> tuple[AskedLayer, ...]:
    """Every layer with what was asked of it before any layer went back to float."""
    return tuple(
        AskedLayer(entry.layer, entry.node, str(requested[entry.layer]), entry.expected)
        for entry in asked_layers(lowered)
    )


def _refuse(wrong: list[LayerAudit], target: Target, *, strict: bool) -> None:
    if strict:
        raise VerificationError(
            f"{target.title} runs {len(wrong)} layers in another precision: {_listed(wrong)}",
            "without --strict these layers are taken back to float; or pin them: "
            f"--pin {wrong[0].layer}=fp32",
        )
    other = [row for row in wrong if row.expected != Precision.INT8]
    if other:
        raise VerificationError(
            f"{target.title} runs layers that are to stay in float in another precision: {_listed(other)}",
            "report this with the versions that qsens doctor shows",
        )


def _returned(row: LayerAudit, drafting: Drafting) -> ReturnedLayer:
    layer = next(layer for layer in drafting.run.graph.layers if layer.name == row.layer)
    precision = _float_of(layer, drafting.run.spec.float_precision)
    if precision is None:
        raise VerificationError(
            f"layer {row.layer!r} may only run in INT8, and {drafting.target.title} runs it in {row.actual}",
            "leave out the pin that says so, or take another target",
        )
    what = f"{layer.kind} {_surroundings(row.layer, drafting)}"
    reason = f"{drafting.target.name} has no INT8 kernel for this {what}: it ran in {row.actual}"
    return ReturnedLayer(row.layer, row.node, precision, reason)


def _surroundings(layer: str, drafting: Drafting) -> str:
    """The nodes that the target's kernels do not fuse and that keep the layer from being one; else `here`."""
    plan, wanted = drafting.run.plan, drafting.target.placement
    operation = plan.operations[layer]
    own = plan.topology.nodes[operation.node].output[0]
    if wanted != Placement.KERNELS or drafting.run.spec.placement == wanted or own not in plan.own_results:
        return "here"
    return (
        f"with the {' and '.join(node.op_type for node in fused_chain(operation, plan.topology))} behind it"
    )


def _in_order(returned: list[ReturnedLayer], lowered: LoweredGraph) -> tuple[ReturnedLayer, ...]:
    places = {layer.name: place for place, layer in enumerate(lowered.graph.layers)}
    return tuple(sorted(returned, key=lambda entry: places[entry.layer]))


def _float_of(layer: Layer, wished: str) -> Precision | None:
    order = (Precision(wished), Precision.FP16, Precision.FP32)
    return next((precision for precision in order if precision in layer.allowed), None)


def _listed(rows: list[LayerAudit]) -> str:
    shown = ", ".join(f"{row.layer} ({row.actual}, expected {row.expected})" for row in rows[:6])
    return f"{shown} and {len(rows) - 6} more" if len(rows) > 6 else shown

"""Engines on a CPU as a sweep sees them: they run batches, and say what their layers really run in."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

import numpy as np
import onnxruntime

from qsens.core.errors import BuildError
from qsens.core.interfaces import Engine
from qsens.core.layer import weight_bytes
from qsens.core.precision import PrecisionMap
from qsens.device.audit import DeviceEngine, LayerAudit, audit_layers
from qsens.device.errors import DeviceError
from qsens.engines.lowering.lowered_graph import LoweredGraph, applied_from_audit, asked_layers

Array = np.ndarray[Any, np.dtype[Any]]


class OnnxRuntimeEngine(Engine):
    """One session with graph optimisation off, so that it holds the lowered graph and nothing fused."""

    def __init__(
        self, session: onnxruntime.InferenceSession, lowered: LoweredGraph, applied: PrecisionMap
    ) -> None:
        self.session = session
        # The session reads these arrays where they lie: they must live as long as it does.
        self._weights = lowered.detached.weights
        self._layer_of_output = dict(lowered.overflow_outputs)
        self._overflows = dict(lowered.fp16_lost_weights)
        self.applied = applied
        self.size_bytes = weight_bytes(lowered.graph.layers, self.applied)

    def run(self, batch: Mapping[str, Array]) -> Mapping[str, Array]:
        return self.without_counts(self.all_outputs(batch))

    def all_outputs(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs of the session, counts of overflow included."""
        return session_outputs(self.session, batch)

    def without_counts(self, values: dict[str, Array]) -> dict[str, Array]:
        """Take the counts of overflow out of the outputs of one batch and add them up."""
        for output, layer in self._layer_of_output.items():
            count = int(values.pop(output))
            if count:
                self._overflows[layer] = self._overflows.get(layer, 0) + count
        return values

    def fp16_overflows(self) -> Mapping[str, int]:
        return dict(self._overflows)

    def close(self) -> None:
        del self.session, self._weights

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def session_outputs(session: onnxruntime.InferenceSession, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs of a session by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(feeds)), strict=True))


class CpuEngine:
    """Runs the `u8` flavour of a map on a runtime of this machine's CPU.

    `audit` and `applied` are read from the engine when they are first asked for: a runtime that compiles
    for the shapes it is given chooses its kernels by them. With `pads_batches`, a batch smaller than one
    before it is filled up with its last sample, so that it runs in the same compiled model.
    """

    def __init__(
        self, device_engine: DeviceEngine, lowered: LoweredGraph, *, pads_batches: bool = False
    ) -> None:
        self.device_engine = device_engine
        self.size_bytes = device_engine.size_bytes
        self._lowered = lowered
        self._batched = [spec.name for spec in lowered.graph.inputs if spec.is_batched]
        self._batched_outputs = _batched_outputs(lowered)
        self._pads_batches = pads_batches and lowered.graph.can_batch
        self._largest = 0

    @cached_property
    def audit(self) -> tuple[LayerAudit, ...]:
        """Every layer: asked, and what the engine executes."""
        return audit_layers(asked_layers(self._lowered), self.device_engine.executed_layers())

    @cached_property
    def applied(self) -> PrecisionMap:
        """The precisions that the engine executes, as a map."""
        return applied_from_audit(self.audit, self._lowered)

    def run(self, batch: Mapping[str, Array]) -> Mapping[str, Array]:
        if not self._pads_batches or not self._batched:
            return self._run(batch)
        count = len(batch[self._batched[0]])
        self._largest = max(self._largest, count)
        if count == self._largest:
            return self._run(batch)
        outputs = self._run({name: self._padded(name, value) for name, value in batch.items()})
        return {
            name: value[:count] if name in self._batched_outputs else value for name, value in outputs.items()
        }

    def fp16_overflows(self) -> Mapping[str, int]:
        return {}

    def close(self) -> None:
        self.device_engine.close()

    def __enter__(self) -> "CpuEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, batch: Mapping[str, Array]) -> Mapping[str, Array]:
        try:
            return self.device_engine.run(batch)
        except DeviceError as error:
            raise BuildError(error.message, error.hint) from error

    def _padded(self, name: str, value: Array) -> Array:
        if name not in self._batched:
            return value
        return np.concatenate([value, np.repeat(value[-1:], self._largest - len(value), axis=0)])


def _batched_outputs(lowered: LoweredGraph) -> frozenset[str]:
    """Outputs whose first axis is free: the batch."""
    outputs = lowered.graph.model.graph.output
    return frozenset(
        value.name
        for value in outputs
        if (sides := value.type.tensor_type.shape.dim) and not sides[0].HasField("dim_value")
    )

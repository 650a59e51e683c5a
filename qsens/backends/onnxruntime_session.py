"""An engine of ONNX Runtime whose session holds the lowered graph and nothing fused."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import onnxruntime

from qsens.core.layer import weight_bytes
from qsens.core.precision import PrecisionMap
from qsens.engines.lowering.lowered_graph import LoweredGraph

Array = np.ndarray[Any, np.dtype[Any]]


class OnnxRuntimeEngine:
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
        """What the session hands out, counts of overflow included."""
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

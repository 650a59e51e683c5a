"""Runs a talking-face generator outside a sweep, on ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from qsens.errors import SpecError
from qsens.zoo.metrics.scoring import Generate

INPUTS = ("mel", "face")


def session_talker(model: onnx.ModelProto, *, threads: int = 0) -> Generate:
    """The exported generator as a function of mel windows and faces. `threads` 0: one a core.

    Raises:
        SpecError: if its inputs are not `mel` and `face`.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = {entry.name for entry in session.get_inputs()}
    if names != set(INPUTS):
        raise SpecError(
            f"a generator with the inputs {', '.join(sorted(names))}",
            f"a talking-face generator takes {' and '.join(INPUTS)}",
        )

    def generate(mel: NDArray[np.float32], face: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(session.run(None, {"mel": mel, "face": face})[0])

    return generate

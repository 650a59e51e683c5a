"""Runs a talking-face generator outside a sweep: in torch where it is a module, else on ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from qsens.core.errors import SpecError
from qsens.core.interfaces import Generator
from qsens.zoo.metrics.scoring import Generate

INPUTS = ("mel", "face")


def talker_of(generator: Generator) -> Generate:
    """An opened generator as a function of mel windows and faces.

    Raises:
        SpecError: if its inputs are not `mel` and `face`.
        LoadError: if it cannot be exported.
    """
    module = getattr(generator, "module", None)
    return _session_talker(generator.export()) if module is None else module_talker(module)


def module_talker(module: Any) -> Generate:
    """A torch module `module(mel, face)` in eval mode as such a function, on the module's device."""
    import torch  # heavy, and not needed for ONNX files

    device = next(module.parameters()).device

    def generate(mel: NDArray[np.float32], face: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            made = module(torch.from_numpy(mel).to(device), torch.from_numpy(face).to(device))
        return np.asarray(made.float().cpu().numpy())

    return generate


def _session_talker(model: onnx.ModelProto) -> Generate:
    import onnxruntime  # half a second that torch modules do not need

    options = onnxruntime.SessionOptions()
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

"""A probe that tells whether a runtime's convolutions keep integer sums exact."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS = 96
SIDE = 14
Values = np.ndarray[Any, np.dtype[Any]]


def _weight() -> Values:
    rng = np.random.default_rng(7)
    return rng.integers(-127, 128, size=(CHANNELS, CHANNELS, 3, 3)).astype(np.float32)


def probe_model() -> onnx.ModelProto:
    """One 3x3 convolution of a size that fast algorithms (Winograd, FFT) would be chosen for."""
    graph = helper.make_graph(
        [helper.make_node("Conv", ["codes", "weight"], ["sums"], name="probe", pads=[1, 1, 1, 1])],
        "probe",
        [helper.make_tensor_value_info("codes", TensorProto.FLOAT, [2, CHANNELS, SIDE, SIDE])],
        [helper.make_tensor_value_info("sums", TensorProto.FLOAT, [2, CHANNELS, SIDE, SIDE])],
        [numpy_helper.from_array(_weight(), "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def probe_sample() -> tuple[Values, Values]:
    """Codes (2, 96, 14, 14) and the exact sums of `probe_model` over them.

    They are computed in float64, which holds sums of these integers exactly.
    """
    codes = np.random.default_rng(11).integers(-128, 128, size=(2, CHANNELS, SIDE, SIDE))
    padded = np.pad(codes, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, CHANNELS * 9)
    sums = columns.astype(np.float64) @ _weight().astype(np.float64).reshape(CHANNELS, -1).T
    expected = sums.reshape(2, SIDE, SIDE, CHANNELS).transpose(0, 3, 1, 2)
    return codes.astype(np.float32), expected.astype(np.float32)

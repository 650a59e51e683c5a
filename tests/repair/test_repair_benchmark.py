"""The published schemes of the repair benchmark: each keeps what its paper promises, on a small graph."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from lowered_models import prepared
from onnx import helper
from tiny_models import normal, onnx_model

from qsens.calibration.batches import InputCache
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import SweepSpec
from qsens.engines.lowering.int8 import quantize_weight
from qsens.engines.lowering.plan import LoweringOptions, WeightScales
from qsens.engines.onnxruntime import OnnxRuntimeBackend
from qsens.run.calibrated_graph import CalibratedGraph

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


class Samples:
    """Eight pictures of noise that is nowhere zero in the mean."""

    digest = "noise"

    def __len__(self) -> int:
        return 8

    def sample(self, index: int) -> dict[str, np.ndarray]:
        return {"image": np.random.default_rng(index).random((3, 8, 8), dtype=np.float32)}


JOB = SimpleNamespace(calibration=Samples())
IMAGES = np.stack([JOB.calibration.sample(index)["image"] for index in range(8)])


@pytest.fixture
def schemes(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("repair_schemes")


@pytest.fixture(scope="module")
def calibrated():
    """Two convolutions with a ReLU between them, of uneven channels; one weight is larger than the rest."""
    first, last = normal(128, 3, 3, 3, seed=1), normal(16, 128, 3, 3, seed=2)
    first[1] *= 5
    last[0, 0, 0, 0] = 4.0
    nodes = [
        helper.make_node("Conv", ["image", "w0", "b0"], ["c0"], name="first", pads=[1] * 4),
        helper.make_node("Relu", ["c0"], ["r0"], name="relu"),
        helper.make_node("Conv", ["r0", "w1"], ["picture"], name="last", pads=[1] * 4),
    ]
    weights = {"w0": first, "b0": np.abs(normal(128, seed=3)) + 1, "w1": last}
    inputs, outputs = {"image": ["n", 3, 8, 8]}, {"picture": ["n", 16, 8, 8]}
    setup = prepared(onnx_model(nodes, inputs=inputs, outputs=outputs, weights=weights), amaxes={"r0": 8.0})
    options = LoweringOptions(weight_scales=WeightScales.PER_TENSOR)
    return CalibratedGraph(SweepSpec(threads=1), setup.plan, setup.ranges, options)


def pictures(calibrated: CalibratedGraph, last: Precision) -> np.ndarray:
    """The pictures with the second layer in a precision and the first in FP32."""
    wanted = PrecisionMap.over({"first": Precision.FP32, "last": last})
    with OnnxRuntimeBackend(threads=1).build(calibrated.lower(wanted)) as engine:
        return engine.run({"image": IMAGES})["picture"]


def weight_error(calibrated: CalibratedGraph, layer: str) -> float:
    """Squared error of a layer's weight as INT8 holds it, from what FP32 has."""
    plan = calibrated.plan
    codes, scales = quantize_weight(plan.int8_weight(layer), axis=None)
    return float(np.square(codes * scales - plan.topology.constant(plan.operations[layer].weight)).sum())


def test_bias_correction_takes_up_the_mean_error_of_rounded_weights(schemes, calibrated):
    exact = pictures(calibrated, Precision.FP32)

    def mean_error(of: CalibratedGraph) -> float:
        return float(np.abs((pictures(of, Precision.INT8) - exact).mean(axis=(0, 2, 3))).max())

    assert mean_error(schemes.bias_corrected(calibrated, JOB)) < 0.2 * mean_error(calibrated)


def test_least_squares_weights_are_never_further_from_fp32(schemes, calibrated):
    clipped = schemes.least_squares_weights(calibrated, JOB)
    pairs = {
        name: (weight_error(clipped, name), weight_error(calibrated, name)) for name in ("first", "last")
    }
    assert all(after <= before for after, before in pairs.values())
    assert pairs["last"][0] < 0.9 * pairs["last"][1]


def test_smoothing_keeps_fp32_and_evens_out_activations_and_weights(schemes, calibrated):
    smooth = schemes.smoothed(calibrated, JOB)
    np.testing.assert_allclose(
        pictures(smooth, Precision.FP32), pictures(calibrated, Precision.FP32), rtol=1e-4, atol=1e-4
    )
    observer = smooth.plan.observer(smooth.options.placement, 1)
    values = [entry["r0"] for entry in observer.values(["r0"], InputCache(JOB.calibration, smooth.graph, 1))]
    of_input = np.concatenate(values).max(axis=(0, 2, 3))
    of_weight = np.abs(smooth.plan.topology.constant("w1")).max(axis=(0, 2, 3))
    np.testing.assert_allclose(of_input, of_weight, rtol=1e-4)
    assert smooth.ranges["r0"].amax < calibrated.ranges["r0"].amax

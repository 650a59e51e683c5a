"""The grid of CPU engines, 0 to 255 for what cannot be negative: scored and shipped alike."""

import numpy as np
import pytest
from flavours import constants, lowered, run_plainly
from lowered_models import FP32, INT8, images, prepared, residual_generator
from onnx import helper
from tiny_models import normal, onnx_model

from qsens.core.errors import BuildError
from qsens.engines.lowering.plan import Grid, Placement
from qsens.engines.onnxruntime import OnnxRuntimeBackend
from qsens.engines.openvino import OpenVinoBackend

UNSIGNED = {"grid": Grid.UNSIGNED}


def picture(setup, precision, **options):
    with setup.engine(precision, **options) as engine:
        (values,) = engine.run(images()).values()
    return values


@pytest.mark.parametrize("placement", Placement)
def test_steps_half_as_wide_are_nearer_to_fp32(placement):
    setup = prepared(residual_generator(), amax=8.0)
    expected = picture(setup, FP32)
    signed, unsigned = (
        np.abs(picture(setup, INT8, placement=placement, grid=grid) - expected).mean() for grid in Grid
    )
    assert unsigned < 0.8 * signed


@pytest.mark.parametrize("placement", Placement)
def test_the_shipped_graph_computes_what_is_scored(placement):
    setup = prepared(residual_generator(), amax=3.1)
    expected = picture(setup, INT8, placement=placement, **UNSIGNED)
    model = lowered(setup, INT8, "u8", placement=placement, **UNSIGNED).model
    (values,) = run_plainly(model, images()).values()
    np.testing.assert_allclose(values, expected, atol=2e-5)


@pytest.mark.parametrize(
    "backend", [lambda: OpenVinoBackend(threads=1), lambda: OnnxRuntimeBackend(threads=1, optimised=True)]
)
def test_engines_compute_what_is_scored(backend):
    setup = prepared(residual_generator(), amax=3.1)
    expected = picture(setup, INT8, placement=Placement.DENSE, **UNSIGNED)
    with backend().build(lowered(setup, INT8, "u8", placement=Placement.DENSE, **UNSIGNED)) as engine:
        (values,) = engine.run(images()).values()
    assert np.abs(values - expected).mean() < 2e-3


def test_codes_are_clipped_where_the_range_ends_and_sums_are_exact():
    """One layer behind a ReLU against integers: values below zero are 0, those beyond the range 255."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "w"], ["y"], name="layer", pads=[1] * 4),
    ]
    weight = normal(4, 8, 3, 3, seed=1)
    sides = ["n", 8, 5, 5]
    model = onnx_model(nodes, inputs={"x": sides}, outputs={"y": None}, weights={"w": weight})
    setup = prepared(model, amax=2.0)
    x = normal(2, 8, 5, 5, seed=2, scale=3.0)
    with setup.engine(INT8, **UNSIGNED) as engine:
        values = engine.run({"x": x})["y"]
    scale = np.float32(2.0) / np.float32(255)
    codes = np.clip(np.rint(np.maximum(x, 0) / scale), 0, 255)
    assert codes.max() == 255
    steps = np.abs(weight).max(axis=(1, 2, 3)).astype(np.float32) / np.float32(127)
    weight_codes = np.rint(weight / steps.reshape(-1, 1, 1, 1))
    padded = np.pad(codes, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    sums = np.einsum("ncyxij,ocij->noyx", windows, weight_codes)
    expected = sums.astype(np.float32) * (scale * steps).reshape(1, -1, 1, 1)
    np.testing.assert_array_equal(values, expected)


def test_what_may_be_negative_keeps_its_codes():
    setup = prepared(residual_generator(), amax=3.1)
    held = constants(lowered(setup, INT8, "u8", **UNSIGNED).model)
    assert held["image:scale"] == np.float32(3.1) / np.float32(127)
    assert held["r0:scale"] == np.float32(3.1) / np.float32(255)


@pytest.mark.parametrize("flavour", ["strong", "weak"])
def test_tensorrt_has_no_unsigned_grid(flavour):
    setup = prepared(residual_generator())
    with pytest.raises(BuildError, match="this target has no unsigned INT8"):
        lowered(setup, INT8, flavour, **UNSIGNED)


def test_a_wide_layer_is_summed_in_parts():
    """255 times 127 times the number of inputs passes what float32 holds exactly."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="relu"),
        helper.make_node("Gemm", ["r", "w"], ["y"], name="wide"),
    ]
    weight = np.full((1024, 2), 0.5, np.float32)
    model = onnx_model(nodes, inputs={"x": ["n", 1024]}, outputs={"y": None}, weights={"w": weight})
    setup = prepared(model, amax=1.0)
    assert setup.lower(INT8).split_layers == ()
    assert setup.lower(INT8, **UNSIGNED).split_layers == ("wide",)
    with setup.engine(INT8, **UNSIGNED) as engine:
        values = engine.run({"x": np.ones((1, 1024), np.float32)})["y"]
    scale = np.float32(1 / 255) * np.float32(0.5 / 127)
    np.testing.assert_allclose(values, np.full((1, 2), 255 * 127 * 1024 * scale), rtol=1e-7)

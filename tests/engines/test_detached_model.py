import gc

import numpy as np
import onnx
import pytest
from flavours import lowered
from lowered_models import FP16, FP32, INT8, images, prepared, residual_generator

from qsens.engines.lowering.lowered_graph import LARGE_BYTES
from qsens.engines.onnxruntime import OnnxRuntimeBackend

WIDE = 48  # channels that make most weights large


def test_large_weights_are_named_and_not_held_by_the_skeleton():
    detached = prepared(residual_generator(WIDE)).lower(INT8).detached
    assert "middle:int8:0:weight" in detached.weights
    assert len(detached.skeleton.SerializeToString()) < 4 * LARGE_BYTES
    assert sum(value.nbytes for value in detached.weights.values()) > 40 * LARGE_BYTES


def test_attached_model_is_complete_and_valid():
    lowered = prepared(residual_generator(WIDE)).lower(INT8)
    model = lowered.model
    onnx.checker.check_model(model)
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name, value in lowered.detached.weights.items():
        np.testing.assert_array_equal(found[name], value)


def test_arrays_beside_the_graph_compute_what_weights_inside_it_do():
    setup = prepared(residual_generator(WIDE))
    mixed = dict(zip(setup.names, [INT8, FP16, FP32, INT8, FP16], strict=True))
    for wanted in (mixed, FP32, FP16):
        inside = OnnxRuntimeBackend(threads=1).open_session(setup.lower(wanted).model)
        with setup.engine(wanted) as engine:
            expected = inside.run(["picture"], images())[0]
            np.testing.assert_array_equal(engine.run(images())["picture"], expected)


def test_engine_keeps_its_weights_alive():
    setup = prepared(residual_generator(WIDE))
    with setup.engine(FP32) as engine:
        before = engine.run(images())["picture"]
        gc.collect()
        # Freed memory would be handed out again and overwritten here.
        litter = [np.full(WIDE * WIDE * 9, np.nan, np.float32) for _ in range(64)]
        np.testing.assert_array_equal(engine.run(images())["picture"], before)
    assert len(litter) == 64


@pytest.mark.parametrize("flavour", ["exact", "u8", "strong", "weak"])
def test_serialized_model_is_the_attached_one(flavour):
    setup = prepared(residual_generator(WIDE))
    mixed = dict(zip(setup.names, [INT8, FP16, FP32, INT8, FP16], strict=True))
    detached = lowered(setup, mixed, flavour).detached
    read = onnx.load_from_string(detached.serialized())
    expected = detached.attached()
    by_name = [{tensor.name: tensor for tensor in model.graph.initializer} for model in (read, expected)]
    assert by_name[0] == by_name[1]
    for model in (read, expected):
        del model.graph.initializer[:]
    assert read == expected

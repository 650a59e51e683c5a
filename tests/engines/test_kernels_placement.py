"""ONNX Runtime: a sum or an activation behind a layer keeps it in float unless it is quantized first."""

import numpy as np
import pytest
from flavours import lowered, run_plainly
from lowered_models import INT8, images, prepared, residual_generator
from onnx import helper
from tiny_models import normal, onnx_model

from qsens.device.audit import audit_layers
from qsens.device.onnxruntime_runtime import OnnxRuntimeRuntime
from qsens.engines.lowering.lowered_graph import asked_layers
from qsens.engines.lowering.plan import Grid, Placement
from qsens.engines.lowering.qdq import without_tail_clips

BOUNDS = {"least": np.float32(-0.5), "zero": np.float32(0), "most": np.float32(2)}


def followed_by(*nodes, **weights):
    """A layer `first`, the nodes from its result `c` to `r`, and a layer `last`."""
    return onnx_model(
        [
            helper.make_node("Conv", ["image", "w0"], ["c"], "first", pads=[1] * 4),
            *nodes,
            helper.make_node("Conv", ["r", "w1"], ["picture"], "last"),
        ],
        inputs={"image": ["n", 3, 8, 8]},
        outputs={"picture": None},
        weights={"w0": normal(3, 3, 3, 3), "w1": normal(3, 3, 1, 1, seed=1), **weights},
    )


def activation(kind, *more, **attributes):
    return helper.make_node(kind, ["c", *more], ["r"], "act", **attributes)


def precisions(model, placement):
    """The precision that ONNX Runtime runs each layer in, where all are to be in INT8."""
    whole = lowered(prepared(model, amax=2.0), INT8, "u8", placement=placement, grid=Grid.UNSIGNED)
    graph = without_tail_clips(whole)
    runtime = OnnxRuntimeRuntime(graph.model.SerializeToString(), threads=1)
    audit = audit_layers(asked_layers(graph), runtime.executed_layers())
    runtime.close()
    return {row.layer: row.actual for row in audit}


@pytest.mark.parametrize(
    ("model", "in_dense"),
    [
        (followed_by(activation("LeakyRelu")), "fp32"),
        (followed_by(activation("PRelu", "slope"), slope=normal(3, 1, 1)), "fp32"),
        (followed_by(activation("Clip", "least", "most"), **BOUNDS), "fp32"),
        (followed_by(activation("Clip", "zero", "most"), **BOUNDS), "int8"),
        (followed_by(activation("Relu")), "int8"),
        (followed_by(helper.make_node("Add", ["c", "image"], ["r"], "add")), "fp32"),
        (followed_by(helper.make_node("Add", ["c", "shift"], ["r"], "add"), shift=normal(3, 1, 1)), "fp32"),
    ],
)
def test_a_layer_runs_in_int8_where_its_own_result_is_quantized(model, in_dense):
    assert precisions(model, Placement.DENSE)["first"] == in_dense
    assert precisions(model, Placement.KERNELS) == {"first": "int8", "last": "int8"}


def test_every_layer_of_a_residual_generator_but_the_transposed_one_runs_in_int8():
    found = precisions(residual_generator(), Placement.KERNELS)
    assert found == {name: "fp32" if name == "up" else "int8" for name in found}
    assert precisions(residual_generator(), Placement.DENSE)["inner"] == "fp32"


def test_what_bends_at_zero_only_is_quantized_as_in_dense():
    plan = prepared(followed_by(activation("Relu"))).plan
    assert plan.dense_in(Placement.KERNELS) == plan.dense_in(Placement.DENSE)
    plan = prepared(residual_generator()).plan
    added = plan.dense_in(Placement.KERNELS).keys() - plan.dense_in(Placement.DENSE).keys()
    assert added == {"c2"}


def test_the_scored_arithmetic_rounds_there_too():
    setup = prepared(followed_by(activation("LeakyRelu", alpha=0.5)), amax=2.0)
    exact = lowered(setup, INT8, "exact", placement=Placement.KERNELS).model
    found = run_plainly(exact, images(), ("c",))["c"]
    np.testing.assert_allclose(found * 127 / 2, np.rint(found * 127 / 2), atol=1e-3)
    assert len(np.unique(found)) > 10

"""Every installed backend that can run here keeps its contract on a chain of two convolutions."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402  after the check that onnx is here

from qsens.calibration.ranges import Ranges, TensorRange  # noqa: E402
from qsens.core import plugins  # noqa: E402
from qsens.core.errors import PluginError, ScoreError  # noqa: E402
from qsens.engines.lowering.lower import lower_graph  # noqa: E402
from qsens.engines.lowering.plan import LoweringOptions, LoweringPlan  # noqa: E402
from qsens.graph.prepare import prepare_graph  # noqa: E402
from qsens.testing import check_backend  # noqa: E402

NAMES = plugins.names("backends")
OPTIMISED = ("onnxruntime", {"optimised": True})


def two_convolutions():
    generator = np.random.default_rng(0)
    weights = {
        "w1": generator.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "w2": generator.normal(size=(3, 4, 3, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "w2"], ["y"], "second", pads=[1, 1, 1, 1]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "chain",
        [value("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [value("y", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def created(name, options):
    try:
        return plugins.create("backends", name, options)
    except PluginError as error:
        pytest.skip(error.message)


@pytest.mark.parametrize(("name", "options"), [*((name, {}) for name in NAMES), OPTIMISED])
def test_the_backend_keeps_its_contract(name, options):
    backend = created(name, options)
    model = two_convolutions()
    plan = LoweringPlan.of(prepare_graph(model))
    lowering = LoweringOptions()
    tensors = plan.calibrated_tensors(lowering.placement)
    ranges = Ranges("minmax", 1, "0", tuple(TensorRange(tensor, -8, 8, 8) for tensor in tensors))
    inputs = {"x": np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)}
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    try:
        check_backend(
            backend,
            lambda requested: lower_graph(plan, requested, ranges, lowering, backend.flavour),
            plan.graph.layers,
            inputs,
            expected={"y": session.run(None, inputs)[0]},
        )
    except ScoreError as error:
        pytest.skip(error.message)  # it builds here and runs elsewhere

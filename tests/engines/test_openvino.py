import numpy as np
import onnx
import pytest
from lowered_models import FP16, FP32, INT8, images, prepared, residual_generator
from tiny_models import normal, onnx_model

pytest.importorskip("openvino")

from qsens.core.errors import BuildError
from qsens.core.layer import uniform_map
from qsens.core.precision import PrecisionMap
from qsens.device.machine import this_cpu_saturates
from qsens.engines.lowering.lower import LoweredGraph, lower_graph
from qsens.engines.lowering.lowered_graph import DetachedModel
from qsens.engines.lowering.plan import LoweringOptions, Placement
from qsens.engines.openvino import OpenVinoBackend


def lowered(setup, wanted, flavour="u8", placement=Placement.RESIDUAL):
    chosen = uniform_map(setup.graph.layers, wanted) if isinstance(wanted, type(INT8)) else wanted
    return lower_graph(setup.plan, chosen, setup.ranges, LoweringOptions(placement), flavour)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(1 / np.mean((one - other) ** 2)))


def test_float_layers_are_fp32_and_labelled_so():
    setup = prepared(residual_generator())
    wanted = PrecisionMap.over(dict(zip(setup.names, [INT8, FP16, FP32, INT8, FP16], strict=True)))
    with OpenVinoBackend(threads=1).build(lowered(setup, wanted)) as engine:
        engine.run(images())
        assert [engine.applied[name] for name in setup.names] == [INT8, FP32, FP32, INT8, FP32]
        assert [row.requested for row in engine.audit] == ["int8", "fp16", "fp32", "int8", "fp16"]
        assert not any(row.is_mismatch for row in engine.audit)
        first = engine.audit[0]
        assert (first.layer, first.node, first.engine_layer) == ("first", "first", "first")
        assert "relu0" in first.fused_with


def scaled_residual_generator() -> onnx.ModelProto:
    """`first`, two blocks x + 0.3 * conv(x), and `last`: products that are folded into the weights."""
    nodes = [
        onnx.helper.make_node("Conv", ["image", "w0"], ["x0"], name="first", pads=[1, 1, 1, 1]),
        onnx.helper.make_node("Conv", ["x0", "w1"], ["c1"], name="one", pads=[1, 1, 1, 1]),
        onnx.helper.make_node("Mul", ["c1", "scale"], ["m1"], name="scale1"),
        onnx.helper.make_node("Add", ["x0", "m1"], ["x1"], name="add1"),
        onnx.helper.make_node("Conv", ["x1", "w2"], ["c2"], name="two", pads=[1, 1, 1, 1]),
        onnx.helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        onnx.helper.make_node("Mul", ["r2", "scale"], ["m2"], name="scale2"),
        onnx.helper.make_node("Add", ["x1", "m2"], ["x2"], name="add2"),
        onnx.helper.make_node("Conv", ["x2", "w3"], ["c3"], name="last", pads=[1, 1, 1, 1]),
        onnx.helper.make_node("Mul", ["c3", "scale"], ["picture"], name="scale3"),
    ]
    weights = {"w0": normal(8, 3, 3, 3), "w1": normal(8, 8, 3, 3), "w2": normal(8, 8, 3, 3)}
    weights |= {"w3": normal(3, 8, 3, 3), "scale": np.array(0.3, np.float32)}
    return onnx_model(
        nodes, inputs={"image": ["n", 3, 8, 8]}, outputs={"picture": ["n", 3, 8, 8]}, weights=weights
    )


@pytest.mark.parametrize("placement", list(Placement))
@pytest.mark.parametrize("precision", [FP32, INT8])
def test_layers_in_front_of_a_folded_product_are_found(precision, placement):
    setup = prepared(scaled_residual_generator())
    with OpenVinoBackend(threads=1).build(lowered(setup, precision, placement=placement)) as engine:
        engine.run(images())
        assert [row.actual for row in engine.audit] == [str(precision)] * 4
        assert len({row.engine_layer for row in engine.audit}) == 4


@pytest.mark.skipif(this_cpu_saturates() is not False, reason="this CPU's INT8 kernels may saturate")
@pytest.mark.parametrize("placement", list(Placement))
def test_engine_is_as_far_from_fp32_as_the_exact_graph(placement):
    setup = prepared(residual_generator(16), amax=24.0)  # no value passes it
    with setup.engine(FP32) as exact:
        float_pictures = exact.run(images(32))["picture"]
    with setup.engine(INT8, placement=placement) as exact:
        simulated = psnr(exact.run(images(32))["picture"], float_pictures)
    with OpenVinoBackend(threads=1).build(lowered(setup, INT8, placement=placement)) as engine:
        shipped = psnr(engine.run(images(32))["picture"], float_pictures)
        assert {row.actual for row in engine.audit} == {"int8"}
    assert simulated < 60
    assert shipped == pytest.approx(simulated, abs=0.1)


def test_the_last_and_smaller_batch_gives_the_same_pictures():
    setup = prepared(residual_generator())
    with OpenVinoBackend(threads=1).build(lowered(setup, INT8)) as engine:
        whole = engine.run(images(4))["picture"]
        part = {name: value[:3] for name, value in images(4).items()}
        np.testing.assert_array_equal(engine.run(part)["picture"], whole[:3])


def test_int8_engines_are_smaller():
    setup = prepared(residual_generator(48))
    sizes = []
    for precision in (FP32, INT8):
        with OpenVinoBackend().build(lowered(setup, precision)) as engine:
            sizes.append(engine.size_bytes)
    assert sizes[1] < sizes[0] / 2


def test_graph_of_another_flavour_is_refused():
    setup = prepared(residual_generator())
    with pytest.raises(BuildError, match="'exact'") as caught:
        OpenVinoBackend().build(lowered(setup, INT8, "exact"))
    assert "u8" in caught.value.hint


def test_graph_that_the_runtime_refuses_is_a_build_error():
    setup = prepared(residual_generator())
    model = onnx.ModelProto()
    model.CopyFrom(lowered(setup, FP32).model)
    model.graph.node[0].op_type = "NoSuchOperator"
    with (
        pytest.raises(BuildError, match="NoSuchOperator"),
        OpenVinoBackend().build(
            LoweredGraph(DetachedModel(model), "u8", PrecisionMap(FP32), setup.graph)
        ) as engine,
    ):
        engine.run(images(1))

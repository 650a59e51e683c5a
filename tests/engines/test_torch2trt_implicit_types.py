"""What the weak graph means under implicit quantization: types of nodes, ranges of tensors."""

import numpy as np
import pytest
from lowered_models import FP16, FP32, INT8, prepared, residual_generator
from onnx import helper, numpy_helper
from tiny_models import normal, onnx_model

from qsens.core.errors import BuildError
from qsens.core.precision import PrecisionMap
from qsens.engines.lowering.lower import lower_graph
from qsens.engines.lowering.plan import LoweringOptions, Placement
from qsens.engines.torch2trt.implicit_types import NodeTypes, implicit_types


def types_of(setup, precisions, placement=Placement.RESIDUAL):
    wanted = PrecisionMap.over(dict(zip(setup.names, precisions, strict=True)))
    lowered = lower_graph(
        setup.plan, wanted, setup.ranges, LoweringOptions(placement=placement), flavour="weak"
    )
    return implicit_types(lowered)


def conv(source, weight, output, **attributes):
    return helper.make_node("Conv", [source, weight], [output], name=f"conv {output}", **attributes)


def chain_with_two_readers():
    """`a` is read by two layers, and moved by a resize to one of them: one wants it with another scale."""
    nodes = [
        conv("image", "w", "c"),
        helper.make_node("Relu", ["c"], ["a"], name="relu"),
        conv("a", "w", "b"),
        helper.make_node(
            "Resize",
            ["a", "", "factors"],
            ["r"],
            name="resize",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        conv("r", "w", "d"),
    ]
    return onnx_model(
        nodes,
        inputs={"image": ["n", 4, 8, 8]},
        outputs={"b": ["n", 4, 8, 8], "d": ["n", 4, 16, 16]},
        weights={"w": normal(4, 4, 1, 1), "factors": np.array([1, 1, 2, 2], np.float32)},
    )


def test_float_layers_and_what_is_fused_into_them_are_pinned_and_nothing_has_a_range():
    found = types_of(prepared(residual_generator()), [FP16, FP32, FP32, FP16, FP32])
    assert found.amax == {}
    half, full = NodeTypes(FP16, FP16), NodeTypes(FP32, FP32)
    assert found.nodes == {
        "first": half,
        "relu0": half,
        "middle": full,
        "relu1": full,
        "inner": full,
        "add": full,
        "relu2": full,
        "up": half,
        "relu3": half,
        "last": full,
        "sigmoid": full,
    }
    assert found.uses(FP16)
    assert not found.uses(INT8)


def test_a_tensor_that_only_int8_layers_read_is_kept_in_int8_through_the_relu():
    found = types_of(
        prepared(residual_generator(), amaxes={"r1": 2.0, "image": 1.0}), [FP32, INT8, INT8, FP32, FP32]
    )
    kept = NodeTypes(INT8, INT8)
    assert (found.nodes["middle"], found.nodes["relu1"]) == (kept, kept)
    assert found.amax["c1"] == found.amax["r1"] == pytest.approx(2.0)
    # The float layer before reads no range for its own input, and keeps its own type.
    assert "image" not in found.amax
    assert found.nodes["relu0"] == NodeTypes(FP32, FP32)
    assert found.amax["r0"] == pytest.approx(4.0)


def test_a_residual_sum_is_made_in_floats_and_its_operand_is_bounded_by_the_weights():
    setup = prepared(residual_generator(), amaxes={"r1": 2.0})
    found = types_of(setup, [FP32, INT8, INT8, INT8, FP32])
    assert found.nodes["inner"] == NodeTypes(INT8, FP32)
    assert found.nodes["add"] == found.nodes["relu2"] == NodeTypes(FP32, FP32)
    weights, bias = (setup.plan.topology.constant(name) for name in ("w2", "b2"))
    reached = 2.0 * np.abs(weights).sum((1, 2, 3)).max() + np.abs(bias).max()
    assert found.amax["c2"] == pytest.approx(reached, rel=1e-6)
    assert found.amax["r2"] == pytest.approx(4.0)


def test_floats_beside_int8_layers_are_halves_where_the_map_has_halves():
    found = types_of(prepared(residual_generator()), [FP16, INT8, INT8, INT8, FP16])
    assert found.nodes["inner"] == NodeTypes(INT8, FP16)
    assert found.nodes["add"] == NodeTypes(FP16, FP16)
    # A picture is never made in halves: what computes it is fused into a layer, which has its own type.
    assert found.nodes["sigmoid"] == NodeTypes(FP16, FP16)


def test_a_tensor_with_a_float_reader_is_made_a_float_with_a_range_for_the_other_readers():
    found = types_of(prepared(residual_generator()), [INT8, INT8, FP32, FP32, FP32])
    assert found.nodes["relu0"] == NodeTypes(FP32, FP32), "the FP32 sum reads r0 whole"
    assert found.nodes["first"] == NodeTypes(INT8, FP32)
    assert found.amax["r0"] == pytest.approx(4.0)


def test_moving_values_keeps_int8_where_all_readers_agree_on_the_scale():
    alike = types_of(prepared(chain_with_two_readers(), amaxes={"a": 3.0, "r": 3.0}), [INT8, INT8, INT8])
    assert alike.nodes["relu"] == NodeTypes(INT8, INT8)
    assert "resize" not in alike.nodes, "TensorRT is free to move INT8 values"
    assert alike.amax["a"] == alike.amax["r"] == alike.amax["c"] == pytest.approx(3.0)
    unlike = types_of(prepared(chain_with_two_readers(), amaxes={"a": 3.0, "r": 5.0}), [INT8, INT8, INT8])
    assert unlike.nodes["relu"] == NodeTypes(FP32, FP32)
    assert (unlike.amax["a"], unlike.amax["r"]) == (pytest.approx(3.0), pytest.approx(5.0))


def test_what_only_moves_values_to_an_unlike_reader_is_made_a_float_too():
    found = types_of(prepared(chain_with_two_readers()), [INT8, FP32, INT8])
    assert found.nodes["relu"] == NodeTypes(FP32, FP32)
    assert "resize" not in found.nodes
    assert found.amax.keys() == {"image", "c", "r", "d"}, "no INT8 layer reads a"


def read_by_an_int8_and_a_float_layer(outputs):
    """A resize whose result `r` is read by two layers, and is an output where `outputs` name it."""
    model = chain_with_two_readers()
    model.graph.node.append(conv("r", "w", "e"))
    value = helper.make_tensor_value_info
    model.graph.output.extend(value(name, 1, ["n", 4, 16, 16]) for name in outputs)
    return prepared(model)


def test_what_moves_values_to_a_float_reader_too_makes_floats():
    found = types_of(read_by_an_int8_and_a_float_layer(["e"]), [INT8, INT8, INT8, FP32])
    assert found.nodes["resize"] == NodeTypes(None, FP32)
    assert found.amax["r"] == pytest.approx(4.0)


def test_an_output_of_the_network_is_made_a_float_though_int8_layers_read_it():
    found = types_of(read_by_an_int8_and_a_float_layer(["e", "r"]), [INT8, INT8, INT8, INT8])
    assert found.nodes["resize"] == NodeTypes(None, FP32)
    kept = types_of(read_by_an_int8_and_a_float_layer(["e"]), [INT8, INT8, INT8, INT8])
    assert "resize" not in kept.nodes


def test_dense_placement_keeps_every_tensor_of_the_int8_region_in_int8():
    setup = prepared(residual_generator(), amaxes={"r2": 3.0, "c4": 6.0})
    found = types_of(setup, [INT8] * 5, Placement.DENSE)
    for tensor, amax in (("r0", 4.0), ("r2", 3.0), ("r3", 4.0), ("c4", 6.0)):
        assert found.amax[tensor] == pytest.approx(amax)
    assert found.nodes["last"] == NodeTypes(INT8, INT8), "the pre-activation is kept in INT8"
    assert found.nodes["sigmoid"] == NodeTypes(FP32, FP32)
    assert found.nodes["relu3"] == NodeTypes(INT8, INT8)


def test_scales_are_those_of_the_weak_graph():
    setup = prepared(residual_generator(), amaxes={"image": 0.7})
    wanted = PrecisionMap.over(dict.fromkeys(setup.names, INT8))
    lowered = lower_graph(setup.plan, wanted, setup.ranges, LoweringOptions(), flavour="weak")
    held = {scale.name: numpy_helper.to_array(scale) for scale in lowered.model.graph.initializer}
    nodes = [node for node in lowered.model.graph.node if node.op_type == "QuantizeLinear"]
    scales = {node.input[0]: held[node.input[1]] for node in nodes}
    found = implicit_types(lowered)
    for tensor in ("image", "r0", "r1", "r2", "r3"):
        assert np.float32(found.amax[tensor] / 127) == scales[tensor].item()


def grouped(channels, groups):
    nodes = [
        helper.make_node("ConvTranspose", ["image", "w"], ["y"], name="up", strides=[2, 2], group=groups)
    ]
    return onnx_model(
        nodes,
        inputs={"image": ["n", channels, 4, 4]},
        outputs={"y": ["n", channels, 9, 9]},
        weights={"w": normal(channels, channels // groups, 3, 3)},
    )


def test_an_int8_deconvolution_in_groups_takes_channels_in_fours():
    with pytest.raises(BuildError, match="'up' has groups of 3 to 3 channels") as caught:
        types_of(prepared(grouped(6, 2)), [INT8])
    assert "--pin up=fp16" in caught.value.hint
    assert types_of(prepared(grouped(8, 2)), [INT8]).nodes["up"].precision is INT8
    assert types_of(prepared(grouped(6, 2)), [FP16]).nodes["up"].precision is FP16


def test_an_int8_product_over_three_axes_is_refused():
    model = onnx_model(
        [helper.make_node("MatMul", ["tokens", "w"], ["y"], name="product")],
        inputs={"tokens": ["n", 5, 8]},
        outputs={"y": ["n", 5, 3]},
        weights={"w": normal(8, 3)},
    )
    with pytest.raises(BuildError, match="'product' multiplies more than two axes"):
        types_of(prepared(model), [INT8])

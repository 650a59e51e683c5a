from dataclasses import replace

import numpy as np
import onnx
import pytest
from flavours import QDQ_FLAVOURS, constants, lowered, opset_of, run_plainly, types_of
from lowered_models import FP16, FP32, INT8, images, prepared, residual_generator
from onnx import TensorProto, helper
from tiny_models import normal, onnx_model

from qsens.calibration.ranges import TensorRange
from qsens.core.errors import BuildError
from qsens.core.precision import PrecisionMap
from qsens.engines.lowering.lower import lower_graph
from qsens.engines.lowering.plan import LoweringOptions, Placement
from qsens.graph.topology import Topology

MIXED = {"first": INT8, "middle": FP16, "inner": FP32, "up": INT8, "last": FP16}


def normalised_generator() -> onnx.ModelProto:
    """`enter` (convolution), a normalisation, ReLU, padding, `leave` (convolution)."""
    nodes = [
        helper.make_node("Conv", ["image", "w0", "b0"], ["c0"], name="enter", pads=[1, 1, 1, 1]),
        helper.make_node("InstanceNormalization", ["c0", "one", "zero"], ["n0"], name="norm"),
        helper.make_node("Relu", ["n0"], ["r0"], name="relu"),
        helper.make_node("Pad", ["r0", "pads"], ["p0"], name="pad", mode="reflect"),
        helper.make_node("Conv", ["p0", "w1"], ["c1"], name="leave"),
        helper.make_node("DepthToSpace", ["c1"], ["picture"], name="shuffle", blocksize=2),
    ]
    weights = {
        "w0": normal(8, 3, 3, 3, seed=1),
        "b0": normal(8, seed=2),
        "w1": normal(12, 8, 3, 3, seed=3),
        "one": np.ones(8, np.float32),
        "zero": np.zeros(8, np.float32),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    }
    return onnx_model(
        nodes, inputs={"image": ["n", 3, 8, 8]}, outputs={"picture": ["n", 3, 16, 16]}, weights=weights
    )


def joined_generator() -> onnx.ModelProto:
    """`left` (ReLU) and `right` (no activation) are concatenated and read by `tail`."""
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], name="left"),
        helper.make_node("Relu", ["c0"], ["r0"], name="relu"),
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="right"),
        helper.make_node("Concat", ["r0", "c1"], ["j"], name="join", axis=1),
        helper.make_node("Conv", ["j", "w2"], ["y"], name="tail"),
    ]
    weights = {f"w{index}": normal(3, 3 if index < 2 else 6, 1, 1, seed=index) for index in range(3)}
    return onnx_model(nodes, inputs={"x": ["n", 3, 4, 4]}, outputs={"y": ["n", 3, 4, 4]}, weights=weights)


def quantizers_of(model: onnx.ModelProto) -> dict[str, str]:
    """The tensor that each QuantizeLinear reads, by its output."""
    return {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}


@pytest.mark.parametrize("placement", list(Placement))
@pytest.mark.parametrize("precisions", [FP32, FP16, INT8, MIXED])
@pytest.mark.parametrize("flavour", QDQ_FLAVOURS)
def test_graphs_are_valid_with_float32_ends_and_the_layers_under_their_names(flavour, precisions, placement):
    setup = prepared(residual_generator())
    model = lowered(setup, precisions, flavour, placement=placement).model
    onnx.checker.check_model(model, full_check=True)
    source = setup.graph.model.graph
    assert list(model.graph.input) == list(source.input)
    assert list(model.graph.output) == list(source.output)
    assert {layer.node for layer in setup.graph.layers} <= {node.name for node in model.graph.node}
    assert opset_of(model) == {"u8": 17, "strong": 19, "weak": 17}[flavour]


@pytest.mark.parametrize("placement", list(Placement))
@pytest.mark.parametrize("flavour", ["u8", "weak"])
def test_int8_and_fp32_layers_compute_what_exact_does(flavour, placement):
    setup = prepared(residual_generator())
    wanted = dict(zip(setup.names, [INT8, FP32, INT8, INT8, FP32], strict=True))
    with setup.engine(wanted, placement=placement) as engine:
        expected = engine.run(images())["picture"]
    got = run_plainly(lowered(setup, wanted, flavour, placement=placement).model, images())["picture"]
    # Float sums may move a value across a rounding boundary, where `exact` has integer ones.
    assert np.mean(np.abs(got - expected) < 2e-6) > 0.99


@pytest.mark.parametrize("precisions", [FP16, INT8, MIXED])
def test_strong_stays_within_fp16_of_exact(precisions):
    setup = prepared(residual_generator())
    with setup.engine(precisions) as engine:
        expected = engine.run(images())["picture"]
    with setup.engine(FP32) as engine:
        plain = engine.run(images())["picture"]
    got = run_plainly(lowered(setup, precisions, "strong").model, images())["picture"]
    error, exact_error = (np.sqrt(np.mean((picture - plain) ** 2)) for picture in (got, expected))
    assert error == pytest.approx(exact_error, rel=0.5)


@pytest.mark.parametrize("flavour", QDQ_FLAVOURS)
def test_fp32_everywhere_is_the_generator_itself(flavour):
    setup = prepared(residual_generator())
    model = lowered(setup, FP32, flavour).model
    assert [node.op_type for node in model.graph.node] == [
        node.op_type for node in setup.graph.model.graph.node
    ]
    with setup.engine(FP32) as engine:
        expected = engine.run(images())["picture"]
    np.testing.assert_array_equal(run_plainly(model, images())["picture"], expected)


@pytest.mark.parametrize("flavour", QDQ_FLAVOURS)
def test_one_pair_serves_all_int8_readers_and_float_readers_see_the_tensor(flavour):
    setup = prepared(residual_generator())
    # r0 is read by `middle` and, as the skip, by the add of `inner`.
    model = lowered(setup, INT8, flavour).model
    topology = Topology(model)
    assert topology.nodes["middle"].input[0] in topology.nodes["add"].input
    assert sum(tensor.startswith("r0") for tensor in quantizers_of(model).values()) == 1
    model = lowered(setup, {**dict.fromkeys(setup.names, INT8), "middle": FP32}, flavour).model
    reader = Topology(model).nodes["middle"].input[0]
    assert reader == ("r0:float" if flavour == "strong" else "r0")


@pytest.mark.parametrize("flavour", QDQ_FLAVOURS)
def test_nothing_lies_between_convolution_bias_and_activation(flavour):
    model = lowered(prepared(residual_generator()), INT8, flavour).model
    topology = Topology(model)
    for layer, activation in (("first", "Relu"), ("inner", "Add"), ("last", "Sigmoid")):
        node = topology.nodes[layer]
        assert topology.initializers[node.input[2]].data_type in (TensorProto.FLOAT, TensorProto.FLOAT16)
        assert topology.consumers[node.output[0]][0].op_type == activation


@pytest.mark.parametrize("flavour", QDQ_FLAVOURS)
@pytest.mark.parametrize(("placement", "count"), [(Placement.INPUTS, 0), (Placement.RESIDUAL, 1)])
def test_the_skip_of_a_residual_add_is_quantized_by_placement(flavour, placement, count):
    topology = Topology(lowered(prepared(residual_generator()), INT8, flavour, placement=placement).model)
    makers = [topology.producer[name].op_type for name in topology.nodes["add"].input]
    assert makers.count("DequantizeLinear") == count


@pytest.mark.parametrize("flavour", QDQ_FLAVOURS)
def test_a_concatenation_has_one_scale_and_one_zero_point(flavour):
    setup = prepared(joined_generator(), amaxes={"j": 5.0, "r0": 2.0, "c1": 3.0})
    model = lowered(setup, INT8, flavour).model
    assert list(quantizers_of(model).values()).count("j") == 1  # on the output, not on the branches
    model = lowered(setup, INT8, flavour, placement=Placement.DENSE).model
    held = constants(model)
    nodes = {node.output[0]: node for node in model.graph.node}
    branches = [nodes[f"{name}:codes"] for name in ("r0", "c1", "j")]
    (scale,) = {held[node.input[1]].item() for node in branches}
    assert scale == pytest.approx(5 / 127, rel=1e-3)
    assert len({held[node.input[2]].item() for node in branches}) == 1


@pytest.mark.parametrize("flavour", ["exact", *QDQ_FLAVOURS])
def test_a_float_output_takes_the_picture_and_its_pre_activation_from_dense_and_no_more(flavour):
    setup = prepared(residual_generator(), amax=1.0)
    held = [
        {
            name.split(":")[0]
            for name in quantizers_of(lowered(setup, INT8, flavour, placement=placement).model)
        }
        for placement in (Placement.DENSE, Placement.DENSE_FLOAT_OUTPUT)
    ]
    assert held[0] - held[1] == {"c4", "picture"}
    assert held[1] < held[0]


def test_dense_tensors_with_a_float_output_are_those_that_lead_to_a_layer_by_any_way():
    plan = prepared(joined_generator()).plan
    assert plan.dense_in(Placement.DENSE) == {"r0": "j", "c1": "j", "y": "y"}
    assert plan.dense_in(Placement.DENSE_FLOAT_OUTPUT) == {"r0": "j", "c1": "j"}
    assert plan.dense_in(Placement.RESIDUAL) == {}
    assert "y" not in plan.quantized_tensors(Placement.DENSE_FLOAT_OUTPUT)


def test_u8_writes_signed_tensors_around_128_and_others_from_zero():
    setup = prepared(residual_generator())
    model = lowered(setup, INT8, "u8").model
    held = constants(model)
    zeros = {
        node.output[0]: held[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"
    }
    assert {name.split(":")[0]: (value.dtype, value.item()) for name, value in zeros.items()} == {
        "image": (np.uint8, 128),
        "r0": (np.uint8, 0),
        "r1": (np.uint8, 0),
        "r2": (np.uint8, 0),
        "r3": (np.uint8, 0),
    }


def with_range(setup, tensor: str, minimum: float, maximum: float):
    entries = tuple(
        TensorRange(tensor, minimum, maximum, entry.amax) if entry.tensor == tensor else entry
        for entry in setup.ranges.tensors
    )
    return replace(setup, ranges=replace(setup.ranges, tensors=entries))


def promising(setup, tensor: str, low: float, high: float):
    return replace(setup, ranges=replace(setup.ranges, promised={tensor: (low, high)}))


@pytest.mark.parametrize(
    ("promised", "zero_point", "is_clipped"),
    [(None, 128, False), ((-1.0, 4.0), 128, False), ((0.0, 4.0), 0, False), ((0.0, 9.0), 0, True)],
)
def test_u8_takes_an_input_for_non_negative_only_where_that_is_promised(promised, zero_point, is_clipped):
    setup = with_range(prepared(residual_generator()), "image", 0.0, 4.0)
    if promised is not None:
        setup = promising(setup, "image", *promised)
    model = lowered(setup, INT8, "u8").model
    node = next(node for node in model.graph.node if node.input[0] == "image")
    assert constants(model)[node.input[2]].item() == zero_point
    reader = next(entry for entry in model.graph.node if entry.input[0] == node.output[0])
    assert (reader.op_type == "Clip") == is_clipped


def test_u8_clips_only_what_the_graph_does_not_bound():
    model = lowered(prepared(bounded_generator()), INT8, "u8").model
    clips = [node.input[0] for node in model.graph.node if node.op_type == "Clip"]
    assert clips == ["image", "r1:wide_codes"]


def bounded_generator() -> onnx.ModelProto:
    """Convolutions behind a clip to 0..2, a sigmoid (both bounded) and a ReLU (bounded from below)."""
    nodes = [
        helper.make_node("Clip", ["image", "zero", "two"], ["bounded"], name="clip"),
        helper.make_node("Conv", ["bounded", "w0"], ["c0"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c0"], ["s0"], name="sigmoid"),
        helper.make_node("Conv", ["s0", "w1"], ["c1"], name="middle", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu"),
        helper.make_node("Conv", ["r1", "w2"], ["picture"], name="last", pads=[1, 1, 1, 1]),
    ]
    weights = {
        "w0": normal(8, 3, 3, 3, seed=1),
        "w1": normal(8, 8, 3, 3, seed=2),
        "w2": normal(3, 8, 3, 3, seed=3),
        "zero": np.float32(0),
        "two": np.float32(2),
    }
    return onnx_model(
        nodes, inputs={"image": ["n", 3, 8, 8]}, outputs={"picture": ["n", 3, 8, 8]}, weights=weights
    )


@pytest.mark.parametrize("placement", Placement)
@pytest.mark.parametrize("generator", [residual_generator, normalised_generator, bounded_generator])
def test_u8_computes_what_was_scored_for_inputs_that_calibration_never_saw(generator, placement):
    setup = prepared(generator(), amax=4.0)
    seen = tuple(replace(entry, minimum=0.0) for entry in setup.ranges.tensors)
    setup = replace(setup, ranges=replace(setup.ranges, tensors=seen))
    far = {"image": (images()["image"] - 0.7) * 40}
    with setup.engine(INT8, placement=placement) as engine:
        expected = engine.run(far)["picture"]
    got = run_plainly(lowered(setup, INT8, "u8", placement=placement).model, far)["picture"]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_expected_has_no_fp16_in_u8_and_is_what_was_asked_elsewhere():
    setup = prepared(residual_generator())
    asked = PrecisionMap.over(MIXED)
    for flavour in ("exact", "strong", "weak"):
        assert lowered(setup, MIXED, flavour).expected == asked
    stands_in = {name: FP32 if value is FP16 else value for name, value in MIXED.items()}
    assert lowered(setup, MIXED, "u8").expected == PrecisionMap.over(stands_in)


def test_strong_computes_layers_and_movers_in_fp16_and_other_arithmetic_in_float32():
    setup = prepared(normalised_generator())
    model = lowered(setup, {"enter": FP16, "leave": INT8}, "strong").model
    types = types_of(model)
    topology = Topology(model)
    half = {
        name: types[topology.nodes[name].output[0]] == "FLOAT16"
        for name in ("enter", "norm", "relu", "pad", "leave", "shuffle")
    }
    assert half == {**dict.fromkeys(half, True), "norm": False}
    assert types["picture"] == "FLOAT"
    # In, around the normalisation, out: nothing is cast twice.
    assert sum(node.op_type == "Cast" for node in model.graph.node) == 4


def test_strong_keeps_float32_between_fp32_layers():
    setup = prepared(normalised_generator())
    model = lowered(setup, {"enter": FP16, "leave": FP32}, "strong").model
    types, topology = types_of(model), Topology(model)
    assert all(types[topology.nodes[name].output[0]] == "FLOAT" for name in ("norm", "relu", "pad", "leave"))


def test_strong_names_the_layer_whose_values_fp16_cannot_hold():
    setup = prepared(residual_generator(), amaxes={"r1": 70_000.0})
    lowered(setup, FP16, "strong")  # counted and reported by `exact`
    with pytest.raises(BuildError, match=r"layer 'middle': .* 7e\+04") as caught:
        lowered(setup, INT8, "strong")
    assert "--pin middle=fp32" in caught.value.hint
    lowered(setup, {**dict.fromkeys(setup.names, INT8), "middle": FP32, "inner": FP32}, "strong")


def test_strong_reports_weights_that_fp16_cannot_hold():
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="layer")
    weight = np.array([1e5, 1.0], np.float32).reshape(2, 1, 1, 1)
    model = onnx_model([node], inputs={"x": ["n", 1, 2, 2]}, outputs={"y": None}, weights={"w": weight})
    assert lowered(prepared(model), FP16, "strong").fp16_lost_weights == (("layer", 1),)


def test_weak_keeps_float_weights_and_gives_every_quantizer_a_zero_point():
    setup = prepared(residual_generator())
    model = lowered(setup, INT8, "weak").model
    held = constants(model)
    pairs = [node for node in model.graph.node if node.op_type.endswith("eLinear")]
    assert len(pairs) == 2 * (5 + 5)  # operands and weights of five layers; the skip is an operand
    for node in pairs:
        zero, scale = held[node.input[2]], held[node.input[1]]
        assert zero.dtype == np.int8
        assert not zero.any()
        assert zero.shape == scale.shape
    assert all(value.dtype == np.float32 for name, value in held.items() if name in {"w0", "w4"})
    assert {"w0", "w1", "w2", "w3", "w4"} <= set(quantizers_of(model).values())


def test_weak_pins_what_must_not_run_in_int8():
    setup = prepared(normalised_generator())
    assert lowered(setup, {"enter": FP16, "leave": INT8}, "weak").float_pins == (
        ("enter", "fp16"),
        ("norm", "fp32"),
    )
    setup = prepared(residual_generator())
    pins = dict(lowered(setup, {**dict.fromkeys(setup.names, INT8), "inner": FP16}, "weak").float_pins)
    assert pins == {"inner": "fp16", "add": "fp16", "relu2": "fp16"}
    assert lowered(setup, MIXED, "u8").float_pins == ()


@pytest.mark.parametrize("flavour", QDQ_FLAVOURS)
def test_lowering_to_a_flavour_is_pure(flavour):
    setup = prepared(residual_generator())
    before = setup.graph.model.SerializeToString(deterministic=True)
    first, second = (
        lowered(setup, MIXED, flavour, placement=Placement.DENSE).model.SerializeToString(deterministic=True)
        for _ in range(2)
    )
    assert first == second
    assert setup.graph.model.SerializeToString(deterministic=True) == before


def test_an_unknown_flavour_is_refused():
    setup = prepared(residual_generator())
    with pytest.raises(BuildError, match="'int4'") as caught:
        lower_graph(setup.plan, PrecisionMap(FP32), setup.ranges, LoweringOptions(), "int4")
    assert "strong" in caught.value.hint


@pytest.mark.parametrize("flavour", QDQ_FLAVOURS)
def test_a_tensor_that_a_branch_reads_by_name_keeps_name_and_type(flavour):
    inner = helper.make_graph(
        [helper.make_node("Mul", ["c0", "c0"], ["square"], name="square")],
        "then",
        [],
        [helper.make_tensor_value_info("square", TensorProto.FLOAT, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["c0"], ["negative"], name="negative")],
        "else",
        [],
        [helper.make_tensor_value_info("negative", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c0"], name="layer"),
        helper.make_node("ReduceMax", ["x"], ["peak"], name="peak", keepdims=0),
        helper.make_node("Greater", ["peak", "limit"], ["is_loud"], name="greater"),
        helper.make_node("If", ["is_loud"], ["y"], name="if", then_branch=inner, else_branch=other),
    ]
    weights = {"w": normal(2, 3, 1, 1), "limit": np.array(100, np.float32)}
    model = onnx_model(nodes, inputs={"x": ["n", 3, 4, 4]}, outputs={"y": ["n", 2, 4, 4]}, weights=weights)
    setup = prepared(model, amaxes={"x": 3.0})
    x = {"x": normal(1, 3, 4, 4, seed=4)}
    with setup.engine(INT8) as engine:
        expected = engine.run(x)["y"]
    got = run_plainly(lowered(setup, INT8, flavour).model, x)["y"]
    np.testing.assert_allclose(got, expected, atol=2e-3)

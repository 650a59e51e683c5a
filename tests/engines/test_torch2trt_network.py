"""Networks that torch2trt fills, with our converters: shapes, names, types, ranges and refusals."""

import pytest
from lowered_models import FP16, FP32, INT8, prepared, residual_generator
from onnx import helper
from tiny_models import normal, onnx_model

from qsens.core.errors import BuildError
from qsens.core.precision import PrecisionMap
from qsens.engines.lowering.lower import lower_graph
from qsens.engines.lowering.plan import LoweringOptions, Placement
from qsens.engines.torch2trt.implicit_types import implicit_types
from qsens.engines.torch2trt.libraries import Libraries
from qsens.graph.prepare import prepare_graph
from qsens.run.open import open_generator

torch = pytest.importorskip("torch", reason="needs the extra torch")
from fake_torch2trt import fake_tensorrt_with_networks, fake_torch2trt  # noqa: E402  after the check for torch

from qsens.engines.torch2trt import operators  # noqa: E402
from qsens.engines.torch2trt.engine import write_types  # noqa: E402
from qsens.engines.torch2trt.network import populate_network  # noqa: E402

LEGACY = ("8.5.3", "8.6.0", "10.3.0", "10.16.1")


def libraries(version="10.3.0", *, without=(), **torch2trt):
    trt = fake_tensorrt_with_networks(version, without=without)
    return Libraries(trt, fake_torch2trt(trt, **torch2trt), hasattr(trt.ILayer, "metadata"))


def populated(graph, found=None):
    found = found or libraries()
    return populate_network(graph, found, found.trt.INetworkDefinition(1), found.trt.IBuilderConfig())


def written(setup, precisions, placement=Placement.RESIDUAL, **found):
    """The network with types and ranges, and what was asked for."""
    wanted = PrecisionMap.over(dict(zip(setup.names, precisions, strict=True)))
    options = LoweringOptions(placement=placement)
    lowered = lower_graph(setup.plan, wanted, setup.ranges, options, flavour="weak")
    modules = libraries(**found)
    converted = populated(lowered.graph, modules)
    types = implicit_types(lowered)
    write_types(converted, types, modules.trt)
    return converted, types


def up(channels, *, rank=2, side=4, group=1, weight=None, **attributes):
    """One transposed convolution, `x` to `y`."""
    kernel = normal(*(weight or (channels, 32, *([3] * rank))))
    attributes = {"strides": [2] * rank, "pads": [1] * (2 * rank)} | attributes
    nodes = [helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], name="up", group=group, **attributes)]
    return prepare_graph(
        onnx_model(
            nodes,
            inputs={"x": ["n", channels, *([side] * rank)]},
            outputs={"y": None},
            weights={"w": kernel, "b": normal(kernel.shape[1] * group)},
        )
    )


SHAPES = {
    "64 to 32 channels, output padding": (
        up(64, output_padding=[1, 1]),
        (-1, 32, 8, 8),
        {"pre_padding": (1, 1), "post_padding": (0, 0), "num_groups": 1, "dilation_nd": None},
    ),
    "no output padding": (up(64), (-1, 32, 7, 7), {"post_padding": (1, 1)}),
    "groups": (
        up(8, group=2, weight=(8, 3, 4, 4)),
        (-1, 6, 8, 8),
        {"num_groups": 2, "pre_padding": (1, 1), "post_padding": (1, 1)},
    ),
    "dilation": (
        up(4, weight=(4, 5, 3, 3), dilations=[2, 1], pads=[0, 0, 0, 0]),
        (-1, 5, 11, 9),
        {"dilation_nd": (2, 1)},
    ),
    "dilation alone": (
        up(4, weight=(4, 5, 3, 3), dilations=[2, 2], strides=[1, 1]),
        (-1, 5, 6, 6),
        {"dilation_nd": (2, 2), "stride_nd": (1, 1)},
    ),
    "three axes": (
        up(4, rank=3, weight=(4, 5, 3, 3, 3), output_padding=[1, 0, 1]),
        (-1, 5, 8, 7, 8),
        {"post_padding": (0, 1, 0)},
    ),
    "one axis": (
        up(4, rank=1, weight=(4, 5, 3), output_padding=[1]),
        (-1, 5, 8),
        {"stride_nd": (2, 1), "pre_padding": (1, 0), "post_padding": (0, 0)},
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_transposed_convolution_has_the_shape_that_torch_gives_it(name):
    graph, shape, values = SHAPES[name]
    converted = populated(graph)
    assert converted.tensors["y"].shape == shape
    layer = next(layer for layer in converted.layers["up"] if layer.type.name == "DECONVOLUTION")
    assert {key: getattr(layer, key) for key in values} == values


def test_what_ours_replaces_has_wrong_channels_and_a_wrong_size():
    found = libraries()
    register, known = found.torch2trt.tensorrt_converter, set(found.torch2trt.CONVERTERS)
    found.torch2trt.tensorrt_converter = lambda name: (lambda made: made) if name in known else register(name)
    converted = populated(up(64, output_padding=[1, 1]), found)
    with pytest.raises(AssertionError, match="18432 weights given, 36864 expected"):
        assert converted.tensors["y"].shape
    square = populated(up(32, weight=(32, 32, 3, 3), output_padding=[1, 1]), found)
    assert square.tensors["y"].shape == (-1, 32, 7, 7)


def test_an_output_padding_beyond_the_padding_is_refused():
    with pytest.raises(
        BuildError, match=r"node 'up' .*output padding \(1, 1\) is more than the padding \(0, 0\)"
    ):
        populated(up(4, weight=(4, 5, 3, 3), pads=[0, 0, 0, 0], output_padding=[1, 1]))


def test_a_dilation_is_refused_where_tensorrt_has_none():
    graph = up(4, weight=(4, 5, 3, 3), dilations=[2, 2])
    with pytest.raises(BuildError, match=r"cannot dilate a deconvolution, this one by \(2, 2\)"):
        populated(graph, libraries(without=["dilation_nd"]))
    assert populated(up(4, weight=(4, 5, 3, 3)), libraries(without=["dilation_nd"]))


def padded(mode):
    pads = {"p": helper.make_tensor("p", 7, [8], [0, 0, 1, 2, 0, 0, 3, 4])}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Pad", ["c", "p"], ["y"], name="pad", mode=mode),
    ]
    model = onnx_model(
        nodes,
        inputs={"x": ["n", 3, 8, 8]},
        outputs={"y": ["n", 3, 12, 14]},
        weights={"w": normal(3, 3, 1, 1)},
    )
    model.graph.initializer.append(pads["p"])
    return prepare_graph(model)


def test_zeros_are_padded_through_the_function_that_every_tensorrt_has():
    converted = populated(padded("constant"))
    assert converted.tensors["y"].shape == (-1, 3, 12, 14)


def test_reflection_is_refused_unless_torch2trts_plugin_is_there():
    with pytest.raises(BuildError, match=r"node 'pad' \(Pad\).*zeros instead of reflect") as caught:
        populated(padded("reflect"))
    assert "backend tensorrt" in caught.value.hint
    converted = populated(padded("reflect"), libraries(has_plugin=True))
    assert [layer.type.name for layer in converted.layers["pad"]] == ["PLUGIN_V2"]


def test_a_function_without_converter_is_refused_and_not_made_a_constant():
    with pytest.raises(BuildError, match=r"node 'sigmoid' \(Sigmoid\).*taken? its output for a constant"):
        populated(prepare_graph(residual_generator()), libraries(leaves_out=["torch.sigmoid"]))


def test_a_node_that_is_read_wrongly_is_found_by_what_onnx_runtime_computes(monkeypatch):
    wrong = {**operators._MAKERS, "Relu": operators._MAKERS["Sigmoid"]}
    monkeypatch.setattr(operators, "_MAKERS", wrong)
    with pytest.raises(BuildError, match="output 'picture' differs from ONNX Runtime by"):
        populated(prepare_graph(residual_generator()))


def test_torch_is_as_it_was_after_a_conversion_and_after_one_that_failed():
    before = (torch.nn.functional.conv2d, torch.relu, "reshape" in vars(torch.Tensor))
    populated(prepare_graph(residual_generator()))
    with pytest.raises(BuildError):
        populated(padded("reflect"))
    assert (torch.nn.functional.conv2d, torch.relu, "reshape" in vars(torch.Tensor)) == before


def test_two_conversions_of_one_graph_do_not_disturb_each_other():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Mul", ["c", "v"], ["y"], name="scale"),
    ]
    model = onnx_model(
        nodes,
        inputs={"x": ["n", 3, 8, 8]},
        outputs={"y": ["n", 3, 8, 8]},
        weights={"w": normal(3, 3, 1, 1), "v": normal(3, 1, 1)},
    )
    graph = prepare_graph(model)
    first, second = populated(graph), populated(graph)
    kinds = ["CONSTANT", "SHUFFLE", "ELEMENTWISE"]
    for converted in (first, second):
        assert [layer.type.name for layer in converted.layers["scale"]] == kinds


def test_layers_carry_the_module_paths_and_lead_back_to_their_nodes():
    converted = populated(prepare_graph(residual_generator()))
    for node, kind in (("first", "CONVOLUTION"), ("up", "DECONVOLUTION"), ("add", "ELEMENTWISE")):
        (layer,) = converted.layers[node]
        assert layer.name == f"{node}:0:{kind}:GPU"
        assert layer.metadata == f"[ONNX Layer: {node}]"
    assert converted.tensors["s2"].name == "s2"


def test_before_metadata_a_nodes_layer_takes_its_name():
    converted = populated(prepare_graph(residual_generator()), libraries("8.5.3"))
    assert [layer.name for layer in converted.layers["up"]] == ["up"]


def test_inputs_have_a_free_batch_where_the_graph_has_one():
    converted = populated(prepare_graph(residual_generator()))
    assert converted.tensors["image"].shape == (-1, 3, 8, 8)
    assert converted.tensors["picture"].shape == (-1, 3, 16, 16)
    assert converted.tensors["picture"].is_network_output
    fixed = residual_generator()
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    assert populated(prepare_graph(fixed)).tensors["image"].shape == (1, 3, 8, 8)


def test_an_input_that_is_no_float_is_refused():
    model = residual_generator()
    model.graph.input.append(helper.make_tensor_value_info("label", 7, ["n", 1]))
    model.graph.node.append(helper.make_node("Cast", ["label"], ["copy"], name="cast", to=1))
    model.graph.output.append(helper.make_tensor_value_info("copy", 1, ["n", 1]))
    with pytest.raises(BuildError, match="input 'label' is int64"):
        populated(prepare_graph(model))


@pytest.mark.parametrize("version", LEGACY)
def test_every_layer_has_the_precision_and_every_tensor_the_range_of_the_map(version):
    setup = prepared(residual_generator(), amaxes={"image": 1.0, "r1": 2.0, "r3": 3.0})
    converted, types = written(setup, [INT8, INT8, INT8, FP16, FP32], version=version)
    precisions = {node: layers[0].precision.name for node, layers in converted.layers.items()}
    assert precisions == {
        "first": "INT8",
        "relu0": "INT8",
        "middle": "INT8",
        "relu1": "INT8",
        "inner": "INT8",
        "add": "HALF",
        "relu2": "HALF",
        "up": "HALF",
        "relu3": "HALF",
        "last": "FLOAT",
        "sigmoid": "FLOAT",
    }
    outputs = {node: layers[0]._types.get(0) for node, layers in converted.layers.items()}
    assert outputs.pop("sigmoid") is None, "the picture stays float32"
    expected = precisions | {"inner": "HALF"}
    assert {node: kind.name for node, kind in outputs.items()} == {node: expected[node] for node in outputs}
    ranges = {name: tensor._range for name, tensor in converted.tensors.items() if tensor._range}
    assert ranges.keys() == types.amax.keys() == {"image", "c0", "r0", "c1", "r1", "c2"}
    for name, amax in (("image", 1.0), ("r0", 4.0), ("r1", 2.0)):
        assert ranges[name] == pytest.approx((-amax, amax))


def test_an_int8_convolution_of_one_axis_has_ranges_inside_its_reshapes():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="first", pads=[1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "w"], ["y"], name="second", pads=[1, 1]),
    ]
    model = onnx_model(
        nodes, inputs={"x": ["n", 4, 9]}, outputs={"y": ["n", 4, 9]}, weights={"w": normal(4, 4, 3)}
    )
    converted, types = written(prepared(model, amaxes={"x": 1.0, "r": 2.0}), [INT8, INT8])
    before, layer, after = converted.layers["second"]
    assert [entry.type.name for entry in (before, layer, after)] == ["SHUFFLE", "CONVOLUTION", "SHUFFLE"]
    assert layer.precision.name == "INT8"
    assert before.precision is None
    assert before.get_output(0)._range == pytest.approx((-2.0, 2.0))
    reached = types.amax["y"]
    assert layer.get_output(0)._range == after.get_output(0)._range == (-reached, reached)
    assert before._types == {}
    assert layer._types[0].name == "FLOAT"


def test_a_gemm_is_a_convolution_of_single_pixels_so_that_int8_can_have_it():
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="linear")]
    model = onnx_model(
        nodes,
        inputs={"x": ["n", 16]},
        outputs={"y": ["n", 5]},
        weights={"w": normal(16, 5), "b": normal(5)},
    )
    converted, _ = written(prepared(model), [INT8])
    kinds = [layer.type.name for layer in converted.layers["linear"]]
    assert kinds == ["SHUFFLE", "CONVOLUTION", "SHUFFLE"]
    assert converted.layers["linear"][1].precision.name == "INT8"
    assert converted.layers["linear"][1].get_output(0).shape == (-1, 5, 1, 1)
    assert converted.tensors["y"].shape == (-1, 5)


def test_an_activation_of_several_layers_is_computed_in_floats():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="first"),
        helper.make_node("PRelu", ["c", "s"], ["r"], name="prelu"),
        helper.make_node("Conv", ["r", "w"], ["y"], name="second"),
    ]
    model = onnx_model(
        nodes,
        inputs={"x": ["n", 4, 8, 8]},
        outputs={"y": ["n", 4, 8, 8]},
        weights={"w": normal(4, 4, 1, 1), "s": normal(4, 1, 1)},
    )
    converted, _ = written(prepared(model), [INT8, INT8])
    computing = [layer for layer in converted.layers["prelu"] if layer.type.name != "CONSTANT"]
    assert len(computing) == 5
    assert {layer.precision.name for layer in computing} == {"FLOAT"}
    assert converted.layers["first"][0]._types[0].name == "FLOAT"


def test_a_range_that_tensorrt_refuses_names_the_tensor():
    setup = prepared(residual_generator(), amaxes={"image": 0.0})
    with pytest.raises(BuildError, match="the range 0 of tensor 'image'"):
        written(setup, [INT8] * 5)


# Against NVIDIA's own library, which builds on a machine without a GPU.


def real_network(graph):
    """The graph in a network of TensorRT-RTX, filled by the same converters, and its plan."""
    trt = pytest.importorskip("tensorrt_rtx_bindings", reason="needs the extra rtx")
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    config = builder.create_builder_config()
    converted = populate_network(graph, Libraries(trt, fake_torch2trt(trt), True), network, config)
    profile = builder.create_optimization_profile()
    for name, shape in graph.example_shapes:
        profile.set_shape(name, shape, (2, *shape[1:]), (4, *shape[1:]))
    config.add_optimization_profile(profile)
    return converted, builder.build_serialized_network(network, config)


@pytest.mark.parametrize("name", sorted(SHAPES.keys() - {"dilation"}))
def test_nvidias_library_gives_a_transposed_convolution_the_same_shape(name):
    graph, shape, _ = SHAPES[name]
    converted, plan = real_network(graph)
    assert tuple(converted.tensors["y"].shape) == shape
    assert plan is not None


def test_nvidias_compiler_has_no_kernel_for_stride_and_dilation_together():
    """So a build that fails is an expected end, which the backend reports."""
    converted, plan = real_network(SHAPES["dilation"][0])
    assert tuple(converted.tensors["y"].shape) == SHAPES["dilation"][1]
    assert plan is None


def test_nvidias_compiler_takes_a_whole_generator_as_it_is_filled():
    graph = prepare_graph(residual_generator())
    converted, plan = real_network(graph)
    assert plan is not None
    known = {value.name: value for value in (*graph.model.graph.value_info, *graph.model.graph.output)}
    for name, value in known.items():
        sides = [side.dim_value or -1 for side in value.type.tensor_type.shape.dim]
        assert list(converted.tensors[name].shape) == sides


@pytest.mark.slow
def test_nvidias_compiler_takes_the_shipped_talker_as_it_is_filled():
    graph = prepare_graph(open_generator(None, "wav2lip").export())
    converted, plan = real_network(graph)
    assert plan is not None
    assert {layer.node for layer in graph.layers} <= converted.layers.keys()

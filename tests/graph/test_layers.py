import onnx
import pytest
from onnx import helper
from tiny_models import normal, onnx_model

from qsens.graph.layers import block_of
from qsens.graph.prepare import prepare_graph

SCOPES = "pkg.torch.onnx.name_scopes"


def chain(*layers, producer=""):
    """1x1 convolutions one after another; each is (node name, weight name, scopes or None)."""
    nodes, weights = [], {}
    for index, (name, weight, scopes) in enumerate(layers):
        source = "x" if index == 0 else f"t{index - 1}"
        node = helper.make_node("Conv", [source, weight], [f"t{index}"], name=name)
        if scopes is not None:
            node.metadata_props.append(onnx.StringStringEntryProto(key=SCOPES, value=repr(scopes)))
        nodes.append(node)
        weights[weight] = normal(3, 3, 1, 1, seed=index)
    return onnx_model(
        nodes,
        inputs={"x": ["n", 3, 2, 2]},
        outputs={f"t{len(layers) - 1}": None},
        weights=weights,
        producer=producer,
    )


def names(*layers, producer=""):
    return [layer.name for layer in prepare_graph(chain(*layers, producer=producer)).layers]


def test_exporter_scopes_give_the_module_path():
    scopes = ["", "enc.0", "enc.0.0", "enc.0.0.conv_block", "enc.0.0.conv_block.0", "conv2d"]
    assert names(("node_conv2d", "enc.0.0.conv_block.0.weight", scopes)) == ["enc.0.0.conv_block.0"]


def test_a_module_used_again_is_counted():
    shared = ("shared.weight", ["", "shared", "conv2d"])
    assert names(("a", *shared), ("b", *shared), ("c", *shared)) == ["shared", "shared@2", "shared@3"]


def test_functional_convolutions_take_the_name_of_their_weight():
    found = names(
        ("a", "blend.first", ["", "blend", "conv2d"]),
        ("b", "blend.second_weight", ["", "blend", "conv2d_1"]),
        ("c", "kernel", ["", "conv2d_2"]),
        ("d", "val_7", ["", "conv2d_3"]),
    )
    assert found == ["blend.first", "blend.second", "kernel", "val_7"]


@pytest.mark.parametrize(
    ("scopes", "weight", "name"),
    [
        (["", "b.0", "b.0.bn", "_native_batch_norm_legit_no_training"], "b.0.conv.weight", "b.0.conv"),
        (["", "b", "b.1", "_native_batch_norm_legit_no_training_3"], "b.0.weight", "b.0"),
        (["", "bn", "batch_norm"], "up.weight", "up"),
        (["", "bn", "batch_norm"], "kernel", "bn"),
    ],
)
def test_a_convolution_joined_with_its_normalisation_keeps_its_own_name(scopes, weight, name):
    assert names(("node_Conv_52", weight, scopes)) == [name]


def test_a_functional_convolution_beside_submodules_keeps_apart_from_them():
    found = names(
        ("a", "up.conv.weight", ["", "up", "up.conv", "conv2d"]),
        ("b", "other", ["", "up", "conv2d_1"]),
    )
    assert found == ["up.conv", "up.conv2d_1"]


@pytest.mark.parametrize(
    ("node", "weight", "name"),
    [
        ("/contract.0/Conv", "contract.0.w", "contract.0"),
        (
            "/face_decoder_blocks.3/face_decoder_blocks.3.0/conv_block/conv_block.0/Conv",
            "onnx::Conv_17",
            "face_decoder_blocks.3.0.conv_block.0",
        ),
        ("/Conv_1", "kernel", "kernel"),
        ("/Conv_1", "onnx::Conv_4", "Conv_1"),
        ("plain", "some weight", "plain"),
    ],
)
def test_names_without_metadata(node, weight, name):
    assert names((node, weight, None)) == [name]


def test_torchscript_second_call_of_a_module_is_recognised_by_its_weight():
    found = names(("/shared/Conv", "shared.weight", None), ("/shared_1/Conv", "shared.weight", None))
    assert found == ["shared", "shared@2"]


def test_torchscript_module_that_ends_in_a_number_keeps_it():
    found = names(("/conv/Conv", "conv.weight", None), ("/conv_1/Conv", "conv_1.weight", None))
    assert found == ["conv", "conv_1"]


def test_parameter_names_of_a_torch_file_with_anonymous_nodes():
    layer = ("Conv_0", "encoder.0.weight", None)
    assert names(layer, producer="pytorch") == ["encoder.0"]
    assert names(layer) == ["Conv_0"]


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("face_decoder_blocks.3.0.conv_block.0", "face_decoder_blocks.3"),
        ("res.0.1", "res.0"),
        ("attention.in_proj", "attention"),
        ("out", "out"),
        ("shared@2", "shared"),
        ("stage/2/conv/Conv2D", "stage/2"),
        ("stage/conv", "stage"),
        ("conv2d_4", "conv2d_4"),
    ],
)
def test_block_is_the_name_up_to_its_first_number(name, block):
    assert block_of(name) == block


def test_layers_are_in_execution_order_and_parameters_include_the_bias():
    nodes = [
        helper.make_node("MatMul", ["x", "k"], ["p"], name="product"),
        helper.make_node("Add", ["p", "c"], ["q"]),
        helper.make_node("MatMul", ["q", "q2"], ["z"], name="both computed"),
        helper.make_node("Transpose", ["q"], ["q2"], perm=[0, 2, 1]),
    ]
    model = onnx_model(
        nodes,
        inputs={"x": ["n", 5, 4]},
        outputs={"z": None},
        weights={"k": normal(4, 6), "c": normal(6, seed=1)},
    )
    (layer,) = prepare_graph(model).layers
    assert (layer.name, layer.kind, layer.index, layer.parameters) == ("product", "MatMul", 0, 30)
    assert layer.output_shape == (1, 5, 6)
    assert layer.macs == 5 * 6 * 4

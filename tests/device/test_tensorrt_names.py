import pytest

from qsens.device.tensorrt_inspector import is_region, nodes_in_layer_name, nodes_in_metadata


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("", ()),
        ("[ONNX Layer: conv]", ("conv",)),
        ("[ONNX Layer: conv]\x1e[ONNX Layer: relu]", ("conv", "relu")),
        ("[ONNX Layer: conv]\x1f[ONNX Layer: relu]\x1f[ONNX Layer: conv]", ("conv", "relu")),
        ("[ONNX Layer: body[0]/Conv]\x1e[ONNX Layer: a, b]", ("body[0]/Conv", "a, b")),
        ("an unknown remark", ()),
    ],
)
def test_metadata_lists_the_nodes_once_each(text, nodes):
    assert nodes_in_metadata(text) == nodes


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("conv", ("conv",)),
        ("/enc/Conv + /enc/Relu", ("/enc/Conv", "/enc/Relu")),
        ("left || right", ("left", "right")),
        ("PWN(PWN(sigmoid), mul)", ("sigmoid", "mul")),
        ("PWN(/out/Sigmoid)", ("/out/Sigmoid",)),
        ("conv + PWN(relu)", ("conv", "relu")),
        ("{ForeignNode[first...last]}", ("first", "last")),
        ("{ForeignNode[alone...alone]}", ("alone",)),
        ("Reformatting CopyNode for Input Tensor 0 to conv + relu", ()),
    ],
)
def test_a_layer_name_is_taken_apart(name, nodes):
    assert nodes_in_layer_name(name) == nodes


def test_only_a_foreign_node_is_a_region():
    assert is_region("{ForeignNode[first...last]}")
    assert not is_region("first + last")

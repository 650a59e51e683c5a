"""The examples are written by hand after the documented schemas: golden ones need a GPU."""

import json
from pathlib import Path

import pytest

from qsens.device.audit import AskedLayer, audit_layers
from qsens.device.errors import DeviceError
from qsens.device.tensorrt_inspector import (
    NAMES_ONLY_NOTE,
    REGION_NOTE,
    layers_from_json,
    layers_from_lines,
)

DATA = Path(__file__).parents[1] / "data" / "tensorrt"


def example(version):
    return layers_from_json((DATA / f"inspector-{version}.json").read_text())


def told(layers):
    return {node: layer.precision for layer in layers for node in layer.nodes}


def test_the_combined_format_of_8_6():
    layers = example("8.6")
    assert told(layers) == {
        "first": "int8",
        "relu0": "int8",
        "middle": "fp16",
        "relu1": "fp16",
        "inner": "fp32",
        "add": "fp32",
        "relu2": "fp32",
        "up": None,
        "relu3": None,
        "last": None,
        "sigmoid": None,
    }
    assert [layer.is_reformat for layer in layers] == [True, False, False, False, False]
    assert layers[-1].note == REGION_NOTE
    assert layers[1].kernel == "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32"


def test_a_split_layer_belongs_to_the_step_with_its_weights():
    layers = example("10")
    assert told(layers)["last"] == "int8"
    assert next(layer.name for layer in layers if "last" in layer.nodes) == "last_myl0_2"
    assert told(layers)["up"] == "fp16"
    quantizer = next(layer for layer in layers if "u/quantize" in layer.nodes)
    assert quantizer.is_reformat
    assert not layers[-1].is_reformat


def test_where_a_free_shape_hides_the_data_the_weights_tell():
    assert told(example("10"))["middle"] == "fp16"


def test_the_split_format_of_11():
    layers = example("11")
    assert told(layers) == {"first": "int8", "relu0": "int8", "middle": "fp16", "inner": "fp32"}
    assert layers[-1].is_reformat


def test_the_audit_counts_the_steps_beside_a_layer_that_only_reformat():
    rows = audit_layers([AskedLayer("a", "first", "int8", "int8")], example("8.6"))
    assert (rows[0].engine_layer, rows[0].fused_with, rows[0].reformats) == ("first + relu0", ("relu0",), 1)


def test_an_int8_input_with_float_weights_is_no_int8_layer():
    layer = {"Name": "c", "LayerType": "CaskConvolution", "Inputs": [{"Datatype": "Int8"}]}
    for weights, precision in (("Half", "fp16"), ("Int8", "int8")):
        text = json.dumps({"Layers": [{**layer, "Weights": {"Type": weights}}]})
        assert layers_from_json(text)[0].precision == precision


def test_names_alone_tell_no_precision():
    layers = layers_from_json('{"Layers": ["conv + relu", "Reformatting CopyNode for Input Tensor 0 to x"]}')
    assert [(layer.nodes, layer.precision, layer.note) for layer in layers] == [
        (("conv", "relu"), None, NAMES_ONLY_NOTE),
        ((), None, NAMES_ONLY_NOTE),
    ]


@pytest.mark.parametrize(
    "layer", ["{}", '{"Name": "a", "Inputs": null, "Weights": []}', '{"name": "a", "inputs": ["x"]}', "7"]
)
def test_missing_and_odd_fields_say_less_and_do_not_raise(layer):
    (found,) = layers_from_json(f'{{"Layers": [{layer}]}}')
    assert found.precision is None


@pytest.mark.parametrize("text", ["", "{}", "[1]", "Layer 0: conv"])
def test_what_is_no_description_of_an_engine_is_refused(text):
    with pytest.raises(DeviceError, match="cannot be read"):
        layers_from_json(text)


def one_line_tensor(name, kind):
    return f"{{ Name: {name}, Dimensions: [16,4,3,3], Datatype: {kind}, Format: (NHWC) Channel major }}"


def one_line(name, kind, *, data, constants, nodes):
    listed = ", ".join(constants)
    marks = "\x1f".join(f"[ONNX Layer: {node}]" for node in nodes)
    return (
        f"Name: {name}, LayerType: {kind}, Inputs: [ {one_line_tensor('x', data)}], Constants: [ {listed}], "
        f"Outputs: [ {one_line_tensor('y', 'Half')}], TacticName: stub, StreamId: 0, Metadata: {marks}"
    )


def test_one_line_for_each_layer():
    weights = [one_line_tensor("w", "Int8"), "{ Name: s, Dimensions: [1,16,1,1], Datatype: Float }"]
    layers = layers_from_lines(
        [
            "Layers:",
            one_line("first_0", "correlation", data="Int8", constants=weights, nodes=["first", "dq"]),
            one_line("__myl_MulAddRelu_myl0_3", "kgen", data="Float", constants=[], nodes=["relu", "first"]),
            "I/O Tensors:",
        ]
    )
    assert [(layer.name, layer.nodes, layer.precision) for layer in layers] == [
        ("first_0", ("first", "dq"), "int8"),
        ("__myl_MulAddRelu_myl0_3", ("relu",), "fp32"),
    ]
    assert layers[0].kernel == "stub"

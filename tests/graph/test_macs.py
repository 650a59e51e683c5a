import numpy as np
import pytest
from onnx import helper
from tiny_models import norm_node, norm_weights, normal, onnx_model

from qsens.graph.prepare import prepare_graph


def one_layer(kind, weight, sides, norm=False, **attributes):
    channels = weight[0] if kind == "ConvTranspose" else weight[1] * attributes.get("group", 1)
    outputs = weight[1] * attributes.get("group", 1) if kind == "ConvTranspose" else weight[0]
    nodes = [helper.make_node(kind, ["x", "w"], ["y"], name="layer", **attributes)]
    weights = {"w": np.full(weight, 1e-3, np.float32)}
    if norm:
        nodes.append(norm_node("y", "z"))
        weights |= norm_weights(outputs)
    model = onnx_model(
        nodes,
        inputs={"x": ["n", channels, *sides]},
        outputs={"z" if norm else "y": None},
        weights=weights,
    )
    return prepare_graph(model).layers[0]


# Rows of the published 96-pixel Wav2Lip generator: true multiply-accumulates and those of torchprofile
# (before the batch normalisation's own count), in millions.
WAV2LIP = {
    "AE1.0": ("Conv", (64, 32, 3, 3), (80, 16), {"strides": [3, 1], "pads": [1] * 4}, 7.963, 7.963),
    "FE0.0": ("Conv", (16, 6, 7, 7), (96, 96), {"pads": [3] * 4}, 43.352, 43.352),
    "FE1.0": ("Conv", (32, 16, 3, 3), (96, 96), {"strides": [2, 2], "pads": [1] * 4}, 10.617, 10.617),
    "FD1.0": ("ConvTranspose", (1024, 512, 3, 3), (1, 1), {}, 4.719, 42.467),
    "FD5.0": (
        "ConvTranspose",
        (320, 128, 3, 3),
        (24, 24),
        {"strides": [2, 2], "pads": [1] * 4, "output_padding": [1, 1]},
        212.337,
        849.347,
    ),
    "OUT.1": ("Conv", (3, 32, 1, 1), (96, 96), {}, 0.885, 0.885),
}


@pytest.mark.parametrize("row", WAV2LIP)
def test_wav2lip_rows(row):
    kind, weight, sides, attributes, true, torchprofile = WAV2LIP[row]
    layer = one_layer(kind, weight, sides, **attributes)
    assert layer.macs / 1e6 == pytest.approx(true, abs=5e-4)
    assert layer.macs_torchprofile / 1e6 == pytest.approx(torchprofile, abs=5e-4)


def test_a_folded_normalisation_counts_its_output_elements_in_torchprofile_only():
    plain = one_layer("Conv", (4, 3, 3, 3), (8, 8), pads=[1] * 4)
    folded = one_layer("Conv", (4, 3, 3, 3), (8, 8), norm=True, pads=[1] * 4)
    assert folded.macs == plain.macs == 8 * 8 * 4 * 27
    assert folded.macs_torchprofile == plain.macs_torchprofile + 8 * 8 * 4


@pytest.mark.parametrize(
    ("kind", "weight", "sides", "attributes", "macs", "torchprofile"),
    [
        ("Conv", (6, 1, 3), (10,), {"group": 6}, 6 * 8 * 3, 6 * 8 * 3),
        ("Conv", (2, 3, 1, 2, 2), (4, 3, 3), {}, 2 * 4 * 2 * 2 * 12, 2 * 4 * 2 * 2 * 12),
        ("ConvTranspose", (4, 3, 2, 2), (3, 3), {"strides": [2, 2], "group": 2}, 36 * 12, 6 * 36 * 2 * 4),
    ],
)
def test_hand_counts(kind, weight, sides, attributes, macs, torchprofile):
    layer = one_layer(kind, weight, sides, **attributes)
    assert (layer.macs, layer.macs_torchprofile) == (macs, torchprofile)


def test_a_layer_behind_a_computed_shape_is_counted_by_running():
    nodes = [
        helper.make_node("NonZero", ["x"], ["found"]),
        helper.make_node("Cast", ["found"], ["values"], to=1),
        helper.make_node("Slice", ["values", "start", "stop"], ["rows"]),
        helper.make_node("MatMul", ["rows", "w"], ["z"], name="product"),
    ]
    model = onnx_model(
        nodes,
        inputs={"x": [1, 7]},
        outputs={"z": None},
        weights={
            "w": normal(7, 2),
            "start": np.array([0], np.int64),
            "stop": np.array([2], np.int64),
        },
    )
    assert prepare_graph(model).layers[0].macs == 2 * 2 * 7

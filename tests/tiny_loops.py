"""Tiny generators that are called more than once, and clips for them; loops of a user's own."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from tiny_models import normal, onnx_model

RECURRENT = {"name": "recurrent", "states": {"h_in": "h_out"}}
SAMPLER = {"name": "sampler", "noisy": "x", "time": "t", "output": "eps", "method": "euler", "steps": 4}
SMALL = {"metrics": ["psnr"], "threads": 1, "range_method": "minmax", "repair": "none"}
CLIPS, FRAMES = 4, 3


def conv(source, weight, output, name):
    return helper.make_node("Conv", [source, weight], [output], name=name, pads=[1, 1, 1, 1])


def recurrent_generator(gain: float = 1.0) -> onnx.ModelProto:
    """A picture of a frame and a state of four channels, and the next state."""
    nodes = [
        conv("frame", "w1", "f", "enter"),
        conv("h_in", "w2", "g", "remember"),
        helper.make_node("Add", ["f", "g"], ["a"], name="add"),
        helper.make_node("Tanh", ["a"], ["h_out"], name="tanh"),
        conv("h_out", "w3", "p", "leave"),
        helper.make_node("Sigmoid", ["p"], ["picture"], name="sigmoid"),
    ]
    sides = ["n", 4, 8, 8]
    return onnx_model(
        nodes,
        inputs={"frame": ["n", 3, 8, 8], "h_in": sides},
        outputs={"picture": ["n", 3, 8, 8], "h_out": sides},
        weights={
            "w1": normal(4, 3, 3, 3),
            "w2": normal(4, 4, 3, 3, seed=1) * np.float32(gain),
            "w3": normal(3, 4, 3, 3, seed=2),
        },
    )


def noise_predictor() -> onnx.ModelProto:
    """The noise of a picture of 8x8 at a time, which scales the channels."""
    nodes = [
        helper.make_node("Unsqueeze", ["t", "axes"], ["t4"], name="unsqueeze"),
        helper.make_node("Mul", ["t4", "thousandth"], ["t1"], name="scale"),
        conv("x", "w1", "f", "enter"),
        helper.make_node("Add", ["f", "t1"], ["a"], name="add"),
        helper.make_node("Tanh", ["a"], ["b"], name="tanh"),
        conv("b", "w2", "eps", "leave"),
    ]
    weights = {
        "w1": normal(4, 3, 3, 3),
        "w2": normal(3, 4, 3, 3, seed=2),
        "axes": np.array([1, 2, 3]),
        "thousandth": np.array(0.001, np.float32),
    }
    model = onnx_model(
        nodes, inputs={"x": ["n", 3, 8, 8], "t": ["n"]}, outputs={"eps": ["n", 3, 8, 8]}, weights=weights
    )
    assert model.graph.input[1].type.tensor_type.elem_type == TensorProto.FLOAT
    return model


def write_clips(folder: Path) -> Path:
    """Clips of frames, one `.npz` each, that change a little from frame to frame."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for clip in range(CLIPS):
        scene = random.random((3, 8, 8))
        for frame in range(FRAMES):
            pixels = (0.8 * scene + 0.2 * random.random((3, 8, 8))).astype(np.float32)
            np.savez(folder / f"{clip}-{frame}.npz", frame=pixels, clip=np.array(f"clip {clip}"))
    return folder


class Twice:
    """A loop of a user's own: the picture of the picture."""

    def play(self, call, feeds):
        return [call({"image": call(feed)["picture"].astype(np.float32)}) for feed in feeds]


def thrice(call, feeds):
    """The same as a function, with one call more."""
    made = []
    for feed in feeds:
        for _ in range(2):
            feed = {"image": call(feed)["picture"].astype(np.float32)}
        made.append(call(feed))
    return made


class Unseeded:
    """A loop that is not the same twice."""

    def __init__(self):
        self.random = np.random.default_rng()

    def play(self, call, feeds):
        return [call({"image": self.random.random(feed["image"].shape).astype(np.float32)}) for feed in feeds]


class Nothing:
    """A loop that forgets its pictures."""

    def play(self, call, feeds):
        return [{} for feed in feeds if call(feed)]

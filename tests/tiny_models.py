"""Small ONNX graphs for tests: built node by node, with seeded weights."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

Side = int | str | None


def onnx_model(
    nodes: Sequence[onnx.NodeProto],
    *,
    inputs: Mapping[str, Sequence[Side]],
    outputs: Mapping[str, Sequence[Side] | None],
    weights: Mapping[str, np.ndarray] | None = None,
    opset: int = 17,
    producer: str = "",
) -> onnx.ModelProto:
    """A float32 model; a side that is a string is free."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(sides))
            for name, sides in inputs.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name, sides in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name=producer)
    model.ir_version = 8
    return model


def normal(*shape: int, seed: int = 0, scale: float = 0.3) -> np.ndarray:
    """Seeded float32 values around zero."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def norm_weights(channels: int, prefix: str = "bn", seed: int = 5) -> dict[str, np.ndarray]:
    """Parameters of a batch normalisation that is far from the identity."""
    generator = np.random.default_rng(seed)
    return {
        f"{prefix}.weight": generator.uniform(0.5, 2.0, channels).astype(np.float32),
        f"{prefix}.bias": generator.standard_normal(channels).astype(np.float32),
        f"{prefix}.mean": generator.standard_normal(channels).astype(np.float32),
        f"{prefix}.var": generator.uniform(0.2, 3.0, channels).astype(np.float32),
    }


def norm_node(source: str, output: str, prefix: str = "bn") -> onnx.NodeProto:
    """A batch normalisation that reads `norm_weights`."""
    names = [f"{prefix}.{part}" for part in ("weight", "bias", "mean", "var")]
    return helper.make_node("BatchNormalization", [source, *names], [output], name=f"{prefix}/norm")


def conv_model(*, batch: Side = "n", side: Side = 8, channels: int = 3) -> onnx.ModelProto:
    """Conv, Relu, Conv: the smallest generator."""
    return onnx_model(
        [
            helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c1"], ["r1"], name="relu"),
            helper.make_node("Conv", ["r1", "w2"], ["picture"], name="second"),
        ],
        inputs={"image": [batch, channels, side, side]},
        outputs={"picture": [batch, 3, side, side]},
        weights={"w1": normal(4, channels, 3, 3), "b1": normal(4), "w2": normal(3, 4, 1, 1, seed=2)},
    )


def run_model(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs from ONNX Runtime, unoptimised."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, dict(inputs))

"""Tiny graphs with ranges, lowered and run, for the tests of lowering and of backends."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper
from tiny_models import normal, onnx_model

from qsens.calibration.ranges import Ranges, TensorRange
from qsens.core.layer import uniform_map
from qsens.core.precision import Precision, PrecisionMap
from qsens.engines.lowering.lower import LoweredGraph, lower_graph
from qsens.engines.lowering.plan import LoweringOptions, LoweringPlan, Placement
from qsens.engines.onnxruntime import OnnxRuntimeBackend, OnnxRuntimeEngine
from qsens.graph.graph import Graph
from qsens.graph.prepare import prepare_graph

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8


@dataclass(frozen=True)
class Prepared:
    """A prepared graph with its plan; `amax` is used for every tensor that is not in `amaxes`."""

    graph: Graph
    plan: LoweringPlan
    ranges: Ranges

    def lower(self, precisions: Precision | Mapping[str, Precision], **options: object) -> LoweredGraph:
        layers = self.graph.layers
        wanted = (
            uniform_map(layers, precisions)
            if isinstance(precisions, Precision)
            else PrecisionMap.over(precisions)
        )
        return lower_graph(self.plan, wanted, self.ranges, LoweringOptions(**options))

    def engine(self, precisions: Precision | Mapping[str, Precision], **options: object) -> OnnxRuntimeEngine:
        return OnnxRuntimeBackend(threads=1).build(self.lower(precisions, **options))

    @property
    def names(self) -> list[str]:
        return [layer.name for layer in self.graph.layers]


def prepared(
    model: onnx.ModelProto, *, amax: float = 4.0, amaxes: Mapping[str, float] | None = None
) -> Prepared:
    graph = prepare_graph(model)
    plan = LoweringPlan.of(graph)
    chosen = dict.fromkeys(plan.calibrated_tensors(Placement.KERNELS), amax) | dict(amaxes or {})
    entries = tuple(
        TensorRange(name, -value, value, float(np.float32(value))) for name, value in chosen.items()
    )
    return Prepared(graph, plan, Ranges("minmax", 1, "test", entries))


def residual_generator(channels: int = 8) -> onnx.ModelProto:
    """Convolutions `first`, `middle`, `inner` with a residual add, `up` (transposed) and `last` (sigmoid)."""
    nodes = [
        helper.make_node("Conv", ["image", "w0", "b0"], ["c0"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], name="relu0"),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], name="middle", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="inner", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r0"], ["s2"], name="add"),
        helper.make_node("Relu", ["s2"], ["r2"], name="relu2"),
        helper.make_node(
            "ConvTranspose",
            ["r2", "w3", "b3"],
            ["c3"],
            name="up",
            strides=[2, 2],
            pads=[1, 1, 1, 1],
            output_padding=[1, 1],
        ),
        helper.make_node("Relu", ["c3"], ["r3"], name="relu3"),
        helper.make_node("Conv", ["r3", "w4", "b4"], ["c4"], name="last"),
        helper.make_node("Sigmoid", ["c4"], ["picture"], name="sigmoid"),
    ]
    weights = {
        "w0": normal(channels, 3, 3, 3, seed=1),
        "w1": normal(channels, channels, 3, 3, seed=2),
        "w2": normal(channels, channels, 3, 3, seed=3),
        "w3": normal(channels, channels, 3, 3, seed=4),
        "w4": normal(3, channels, 1, 1, seed=5),
    }
    weights |= {f"b{index}": normal(channels if index < 4 else 3, seed=10 + index) for index in range(5)}
    return onnx_model(
        nodes, inputs={"image": ["n", 3, 8, 8]}, outputs={"picture": ["n", 3, 16, 16]}, weights=weights
    )


def images(count: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(seed).random((count, 3, 8, 8), dtype=np.float32)}

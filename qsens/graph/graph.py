"""The one representation above the loader: a BN-folded FP32 ONNX graph and the list of its layers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from qsens.core.interfaces import InputSpec
from qsens.core.layer import Layer
from qsens.core.other_work import OtherWork


@dataclass(frozen=True, eq=False)
class Graph:
    """A generator as every backend, strategy and calibration sees it.

    `model`: one graph without functions or subgraph-free `Constant` nodes: constants are folded into
    initializers, batch normalisations into their convolutions; nodes are in execution order with unique,
    non-empty names; `value_info` holds an inferred shape for every activation where inference succeeds.
    Treat it as read-only. `example_shapes` are the concrete input shapes (batch axis included) that MACs
    and `Layer.output_shape` were computed for. `can_batch` is false where the graph takes one sample at a
    time, for the reason `why_single`. `digest` covers graph, weights and layer names.
    `dynamic_weight_nodes` are convolutions whose weights are computed from inputs (style modulation): not
    layers, they run in float. `example` is the feed of one sample that the graph was examined with, a real
    one where there was any; `example_outputs` are the FP32 outputs of it. `observed` are layers whose shapes
    only a run on it told, `notes` sentences on what shapes and MACs rest on. `other_work` are the
    nodes that multiply and add and are no layer.
    """

    model: onnx.ModelProto
    layers: tuple[Layer, ...]
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]
    example_shapes: tuple[tuple[str, tuple[int, ...]], ...]
    can_batch: bool
    digest: str
    dynamic_weight_nodes: tuple[str, ...] = ()
    why_single: str | None = None
    example: Mapping[str, np.ndarray[Any, np.dtype[Any]]] = field(default_factory=dict)
    example_outputs: Mapping[str, np.ndarray[Any, np.dtype[Any]]] = field(default_factory=dict)
    observed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    other_work: tuple[OtherWork, ...] = ()

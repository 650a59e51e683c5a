"""The inputs of a model that has not been prepared yet."""

from collections.abc import Sequence

import onnx

from qsens.core.interfaces import InputSpec
from qsens.graph.editable_graph import Draft
from qsens.graph.requirements import refuse_unusable
from qsens.graph.shapes import input_specs
from qsens.graph.shown_names import with_shown_names


def graph_inputs(model: onnx.ModelProto) -> tuple[InputSpec, ...]:
    """Inputs in graph order.

    Raises:
        LoadError: for a model that cannot be swept, an input without a shape, or a batch above one.
    """
    refuse_unusable(model)
    return input_specs(Draft.take_apart(with_shown_names(model)))


def free_inputs(inputs: Sequence[InputSpec]) -> tuple[str, ...]:
    """Names of inputs with a side that the graph leaves open, the batch axis aside."""
    return tuple(entry.name for entry in inputs if None in entry.shape)

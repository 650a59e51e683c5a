"""The graph of a bundle against its document: nothing outside is read, and every layer is checked."""

from __future__ import annotations

from pathlib import Path

from qsens.device.bundle_files import DOCUMENT, MODEL, WEIGHTS, Bundle, read_bundle
from qsens.device.errors import DeviceError, reason_of
from qsens.device.onnx_nodes import OnnxGraph, external_locations, read_onnx_graph
from qsens.device.special_files import read_file

_HINT = "copy or export the bundle again"


def open_bundle(folder: Path) -> Bundle:
    """Read `bundle.json` and hold `model.onnx` against it.

    Raises:
        DeviceError: naming what is missing or wrong, or what one has and the other has not.
    """
    bundle = read_bundle(folder)
    try:
        content = read_file(bundle.model_path)
    except OSError as error:
        raise DeviceError(f"cannot read {bundle.model_path}: {reason_of(error)}", _HINT) from error
    outside = sorted(external_locations(content) - {WEIGHTS})
    if outside:
        raise DeviceError(f"{MODEL} refers to the file {outside[0]!r}, which is no part of a bundle", _HINT)
    problem = _difference(bundle, read_onnx_graph(content))
    if problem is not None:
        raise DeviceError(f"{folder / DOCUMENT}: {problem}", _HINT)
    return bundle


def _difference(bundle: Bundle, graph: OnnxGraph) -> str | None:
    """The first claim of the document that is not true of the graph; `None` where all are."""
    nodes = {node.name for node in graph.nodes}
    spoken_of = {row.node for row in bundle.asked} | bundle.nodes_in_no_layer
    named = [row.node for row in bundle.asked] + [node for node, _ in bundle.float_pins]
    unknown = next((name for name in named if name not in nodes), None)
    if unknown is not None:
        return f"'layers' or 'float_pins' name the node {unknown!r}, which {MODEL} has not"
    unasked = next((node.name for node in graph.weighted_nodes() if node.name not in spoken_of), None)
    if unasked is not None:
        return f"'layers' lack the node {unasked!r} of {MODEL}"
    if set(bundle.outputs) != set(graph.outputs):
        return f"'outputs' are {', '.join(bundle.outputs)}, those of {MODEL} {', '.join(graph.outputs)}"
    return None

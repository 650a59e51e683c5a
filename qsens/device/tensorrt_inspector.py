"""Reads TensorRT's engine inspector: the steps that an engine executes and the ONNX nodes in each.

Three forms are understood: the JSON of TensorRT 8.5 to 10.x, where a tensor has one text for format and
data type and `Bindings` is a list of names; the JSON of 11.x, where the two are apart and `I/O Tensors` are
objects; and the one-line form, which the builder's verbose log has too. (Documentation: "Engine Inspector"
and "Migrating IEngineInspector Usage from TensorRT 10.x to 11.x" of the developer guide.) A key that is
missing makes a step say less; it never raises.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Sequence

from qsens.device.audit import ExecutedLayer
from qsens.device.errors import DeviceError

_LABEL = "[ONNX Layer: "
_SEPARATORS = "\x1e\x1f ,;"
_JOINTS = re.compile(r"\s\+\s|\s\|\|\s|,\s")
_REGION = re.compile(r"^\{ForeignNode\[(.*)\]\}$")
_COPY = "Reformatting CopyNode"
REGION_NOTE = "a region of fused layers: the engine does not tell their types one by one"
NAMES_ONLY_NOTE = "the engine holds names only: build it with detailed profiling verbosity"
_WIDTH = {"int8": 1, "fp16": 2, "fp32": 4}
_WORDS = {"int8": "int8", "half": "fp16", "fp16": "fp16", "float": "fp32", "fp32": "fp32"}
_WORD = re.compile(r"\b(int8|half|fp16|float|fp32)\b")
_WEIGHTED = re.compile(r"conv|correlation|gemm|matmul|matrixmultiply|matrix_multiply|fullyconnected")
_REFORMATS = frozenset({"reformat", "reorder", "noop", "no_op", "copy", "cast"})
# Words of which a fused pointwise kernel is named when all it does is to quantize, cast or move.
_MOVES = frozenset(
    ("Cast", "Conc", "Fc", "Max", "Min", "Move", "Mul", "Pad", "Quan", "Repl", "Resh", "Roun", "Slic", "Tran")
)
_ONE_LINE = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<layertype>.*?), Inputs: \[(?P<inputs>.*?)\], "
    r"(?:Constants: \[(?P<constants>.*?)\], )?Outputs: \[(?P<rest>.*)$"
)
_TACTIC = re.compile(r"TacticName: (.*?)(?:, [A-Z]\w+: |$)")
_METADATA = re.compile(r"Metadata: (.*)$")


def nodes_in_metadata(text: str) -> tuple[str, ...]:
    """The nodes that a layer's metadata lists, in its order; empty where it lists none.

    The parser marks every layer with the text `[ONNX Layer: node]`; a fused layer carries the marks of all
    its parts, with control characters between them (TensorRT 8.6 and later).
    """
    marks = text.split(_LABEL)[1:]
    names = (mark.rstrip(_SEPARATORS) for mark in marks)
    return tuple(dict.fromkeys(name[:-1] if name.endswith("]") else name for name in names))


def nodes_in_layer_name(name: str) -> tuple[str, ...]:
    """The nodes that an engine's layer name is made of: `conv + relu`, `a || b`, `PWN(PWN(sigmoid), mul)`.

    A region of another compiler, `{ForeignNode[first...last]}`, names only its two ends. A step that only
    changes the format stands for no node.
    """
    if name.startswith(_COPY):
        return ()
    region = _REGION.match(name)
    if region:
        return tuple(dict.fromkeys(part for part in region.group(1).split("...") if part))
    parts = (part.replace("PWN(", "").strip() for part in _JOINTS.split(name))
    return tuple(dict.fromkeys(_without_closing(part) for part in parts if part))


def is_region(name: str) -> bool:
    """Whether the name stands for a whole region of the graph that another compiler took."""
    return _REGION.match(name) is not None


def _without_closing(part: str) -> str:
    """Drop the brackets that close a `PWN(` opened in an earlier part."""
    while part.endswith(")") and part.count(")") > part.count("("):
        part = part[:-1]
    return part


@dataclass(frozen=True)
class _Step:
    """One layer of the engine; types are `int8`, `fp16`, `fp32` or `None`."""

    name: str
    kind: str
    nodes: tuple[str, ...]
    data: str | None
    weights: str | None
    kernel: str
    is_named_only: bool = False

    @property
    def is_weighted(self) -> bool:
        return _WEIGHTED.search(self.kind) is not None

    @property
    def is_reformat(self) -> bool:
        if self.kind in _REFORMATS or self.name.startswith("Reformatting CopyNode"):
            return True
        words = re.findall(r"[A-Z][a-z]*", self.name.split("_myl")[1]) if self.kind == "kgen" else []
        return bool(words) and set(words) <= _MOVES

    @property
    def precision(self) -> str | None:
        """INT8 where data and weights are; else the wider of the two, as far as they are told."""
        if is_region(self.name):
            return None
        told = [kind for kind in (self.data, self.weights) if kind is not None]
        return max(told, key=lambda kind: _WIDTH[kind]) if told else None

    @property
    def note(self) -> str:
        if self.is_named_only:
            return NAMES_ONLY_NOTE
        return REGION_NOTE if is_region(self.name) else ""


def layers_from_json(text: str) -> tuple[ExecutedLayer, ...]:
    """The layers that `get_engine_information` of a whole engine names, in execution order.

    Raises:
        DeviceError: if the text is no JSON or holds no list of layers.
    """
    try:
        layers = _lower_keys(json.loads(text))["layers"]
    except (ValueError, KeyError, AttributeError) as error:
        raise DeviceError(
            f"TensorRT's description of the engine cannot be read: {error}",
            "keep the text and report it: this TensorRT writes a form that qsens does not know",
        ) from error
    return _executed([_step(layer) for layer in layers])


def layers_from_lines(lines: Iterable[str]) -> tuple[ExecutedLayer, ...]:
    """The one-line form of the inspector, one layer a line; lines of another form are left out."""
    found = (_ONE_LINE.match(line) for line in lines)
    return _executed([_step(_one_line_fields(match)) for match in found if match is not None])


def _executed(steps: Sequence[_Step]) -> tuple[ExecutedLayer, ...]:
    owners = _owners(steps)
    return tuple(
        ExecutedLayer(
            name=step.name,
            nodes=tuple(node for node in step.nodes if owners[node] == place),
            precision=step.precision,
            kernel=step.kernel or step.kind,
            is_reformat=step.is_reformat,
            note=step.note,
        )
        for place, step in enumerate(steps)
    )


def _owners(steps: Sequence[_Step]) -> dict[str, int]:
    """The step that computes each node: a node that was split shows in the steps around its kernel too."""
    best: dict[str, tuple[tuple[bool, bool, bool], int]] = {}
    for place, step in enumerate(steps):
        for node in step.nodes:
            rank = (step.is_weighted, step.weights is not None, node in step.name)
            if node not in best or rank > best[node][0]:
                best[node] = (rank, place)
    return {node: place for node, (_, place) in best.items()}


def _step(layer: Any) -> _Step:
    if not isinstance(layer, Mapping):
        name = str(layer)
        return _Step(name, "", nodes_in_layer_name(name), None, None, "", is_named_only=True)
    fields = _lower_keys(layer)
    name = str(fields.get("name", ""))
    inputs = [_tensor_type(tensor) for tensor in _listed(fields.get("inputs"))]
    return _Step(
        name=name,
        kind=str(fields.get("layertype", "")).lower(),
        nodes=nodes_in_metadata(str(fields.get("metadata", ""))) or nodes_in_layer_name(name),
        data=inputs[0] if inputs else None,
        weights=_weights_type(fields),
        kernel=str(fields.get("tacticname", "") or ""),
    )


def _weights_type(fields: Mapping[str, Any]) -> str | None:
    weights = fields.get("weights")
    if isinstance(weights, Mapping):
        return _type_in(str(_lower_keys(weights).get("type", "")))
    constants = [_lower_keys(tensor) for tensor in _listed(fields.get("constants"))]
    matrices = [tensor for tensor in constants if _elements(tensor) > 1 and _rank(tensor) > 1]
    return _tensor_type(max(matrices, key=_elements)) if matrices else None


def _tensor_type(tensor: Any) -> str | None:
    if not isinstance(tensor, Mapping):
        return None
    fields = _lower_keys(tensor)
    return _type_in(str(fields.get("datatype", fields.get("format/datatype", ""))))


def _type_in(text: str) -> str | None:
    found = _WORD.search(text.lower())
    return _WORDS[found.group(1)] if found else None


def _elements(tensor: Mapping[str, Any]) -> int:
    count = 1
    for side in _listed(tensor.get("dimensions")):
        count *= abs(int(side))
    return count


def _rank(tensor: Mapping[str, Any]) -> int:
    return sum(1 for side in _listed(tensor.get("dimensions")) if int(side) > 1)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _lower_keys(value: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key).lower(): entry for key, entry in value.items()}


def _one_line_fields(match: re.Match[str]) -> dict[str, Any]:
    """The fields of the JSON form."""
    fields: dict[str, Any] = {"name": match["name"], "layertype": match["layertype"]}
    for key in ("inputs", "constants"):
        fields[key] = [_one_line_tensor(text) for text in (match[key] or "").split("{ Name: ")[1:]]
    for key, pattern in (("tacticname", _TACTIC), ("metadata", _METADATA)):
        found = pattern.search(match["rest"])
        fields[key] = found.group(1) if found else ""
    return fields


def _one_line_tensor(text: str) -> dict[str, Any]:
    sides = re.search(r"Dimensions: \[([-\d,]*)\]", text)
    kind = re.search(r"Datatype: (\w+)", text)
    numbers = [int(side) for side in sides.group(1).split(",") if side] if sides else []
    return {"dimensions": numbers, "datatype": kind.group(1) if kind else ""}

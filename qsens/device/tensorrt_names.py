"""Which ONNX nodes a TensorRT engine layer stands for: read from its metadata, else from its name."""

from __future__ import annotations

import re

_LABEL = "[ONNX Layer: "
_SEPARATORS = "\x1e\x1f ,;"
_JOINTS = re.compile(r"\s\+\s|\s\|\|\s|,\s")
_REGION = re.compile(r"^\{ForeignNode\[(.*)\]\}$")
_COPY = "Reformatting CopyNode"


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

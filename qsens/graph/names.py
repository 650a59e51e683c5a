"""Layer and block names: torch qualified names where the exporter left them, else node names."""

import ast
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from qsens.device.visible_text import visible_name

_SCOPES = "pkg.torch.onnx.name_scopes"
_OWN_WEIGHT = re.compile(r"^(weight(_v|_g|_orig)?|parametrizations\.weight\..*)$")
_LOCAL_SUFFIX = re.compile(r"([._]weight)?$")
_CALL_AGAIN = re.compile(r"@\d+")


@dataclass(frozen=True)
class WeightedNode:
    """What is known about the origin of one weighted node.

    `module` is the path of the innermost torch module, `None` where there is none; `call` names the
    operation inside it; `parameter` is the initializer that the weight came from, or `None`.
    """

    node: str
    module: str | None
    call: str
    parameter: str | None


def weighted_node(node: onnx.NodeProto, parameter: str | None, *, is_torch: bool) -> WeightedNode:
    """Read a node's torch scope from exporter metadata, else from a TorchScript-style node name."""
    scopes = _scopes(node)
    if scopes:
        return WeightedNode(node.name, scopes[-2] if len(scopes) > 1 else "", scopes[-1], parameter)
    if node.name.startswith("/"):
        *path, call = node.name[1:].split("/")
        return WeightedNode(node.name, _module_of_call(path, parameter), call, parameter)
    if is_torch and parameter is not None and parameter.endswith(".weight"):
        return WeightedNode(node.name, parameter.removesuffix(".weight"), node.name, parameter)
    return WeightedNode(node.name, None, node.name, parameter)


def _scopes(node: onnx.NodeProto) -> list[str]:
    text = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "")
    try:
        scopes = ast.literal_eval(text) if text else []
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return []
    return (
        [_CALL_AGAIN.sub("", visible_name(str(scope))) for scope in scopes]
        if isinstance(scopes, list)
        else []
    )


def _module_of_call(path: Sequence[str], parameter: str | None) -> str:
    """`a.0 / a.0.1 / b / b.2` means module `a.0.1.b.2`; the second call of `b` is written `b_1`."""
    module = _joined(path)
    if parameter is not None and parameter.endswith(".weight"):
        owner = parameter.removesuffix(".weight")
        called = r"\.".join(rf"{re.escape(part)}(_\d+)?" for part in owner.split("."))
        if re.fullmatch(called, module):
            return owner
    return module


def _joined(path: Sequence[str]) -> str:
    parts: list[str] = []
    for component in path:
        if parts and component.startswith(parts[-1] + "."):
            parts[-1] = component
        else:
            parts.append(component)
    return ".".join(parts)


def layer_names(nodes: Sequence[WeightedNode]) -> list[str]:
    """One unique name for each node, in order; the same weights used again become `name@2`, `name@3`."""
    weights: dict[str, set[str]] = {}
    for node in nodes:
        if node.module is not None:
            weights.setdefault(node.module, set()).add(node.parameter or node.node)
    counts: Counter[str] = Counter()
    names = []
    for node in nodes:
        name = _base_name(node, weights)
        counts[name] += 1
        names.append(name if counts[name] == 1 else f"{name}@{counts[name]}")
    return names


def _base_name(node: WeightedNode, weights: dict[str, set[str]]) -> str:
    """The module's path; the weight's own name is added where the path alone would be ambiguous."""
    if node.module is None:
        return node.node
    local = _local_name(node)
    if _OWN_WEIGHT.match(local) and node.module:
        return node.module
    holds_others = any(other.startswith(f"{node.module}.") for other in weights if other != node.module)
    if node.module and len(weights[node.module]) == 1 and not holds_others:
        return node.module
    short = _LOCAL_SUFFIX.sub("", local) or node.call
    return f"{node.module}.{short}" if node.module else short


def _local_name(node: WeightedNode) -> str:
    """The parameter's name inside its module, or the name of the call where it came from elsewhere."""
    prefix = f"{node.module}." if node.module else ""
    is_parameter = node.parameter is not None and "::" not in node.parameter
    if is_parameter and node.parameter is not None and node.parameter.startswith(prefix):
        return node.parameter[len(prefix) :]
    return node.call


def block_of(name: str) -> str:
    """The part of a layer name up to and including its first number.

    >>> block_of("face_decoder_blocks.3.0.conv_block.0"), block_of("res.0.1"), block_of("head.out")
    ('face_decoder_blocks.3', 'res.0', 'head')
    """
    base = name.partition("@")[0].strip("/")
    separator = "/" if "/" in base else "."
    parts = base.split(separator)
    number = next((index for index, part in enumerate(parts) if part.isdecimal()), None)
    if number is not None:
        return separator.join(parts[: number + 1])
    return parts[0] if parts[0] else name

"""The program inside a `.pt2` archive: what torch would resolve, evaluate or paste into code is looked at.

A program is JSON, but torch looks its operators up by name anywhere in `torch`, evaluates its shape
expressions and guards as Python, and writes its names into Python source.
"""

from __future__ import annotations

import re
from typing import Any

from qsens.device.plain_values import parse_json
from qsens.generators.shape_expression import SYMBOL, is_plain_expression

_OPERATOR = re.compile(r"torch\.ops\.(aten|prims|torchvision|quantized_decomposed)\.(\w+)\.(\w+)")
# Powers and shifts of plain numbers can take for ever.
_SYMBOLIC = frozenset({
    "_operator.eq", "_operator.ne", "_operator.le", "_operator.ge", "_operator.lt", "_operator.gt",
    "_operator.neg", "_operator.pos", "_operator.mul", "_operator.add", "_operator.sub",
    "_operator.floordiv", "_operator.mod", "_operator.truediv", "_operator.and_", "_operator.or_",
    "_operator.getitem", "math.trunc", "torch.sym_not", "torch.sym_int", "torch.sym_float",
    "torch.sym_ite", "torch.sym_max", "torch.sym_min", "torch.sym_sqrt",
})  # fmt: skip
_OF_GRAPHS = frozenset(
    f"torch.ops.higher_order.{name}"
    for name in ("cond", "while_loop", "scan", "wrap_with_set_grad_enabled", "wrap_with_autocast")
)
_NAME = re.compile(r"[\w.+ -]*")
_STRUCTURES = frozenset({
    None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict",
    "collections.namedtuple",
})  # fmt: skip


class ForeignCodeError(Exception):
    """A part of a program that is more than tensors, operators on them, and plain arithmetic."""


def checked_program(content: bytes) -> dict[str, Any]:
    """The program without what an export does not need: guards, stack traces and other metadata.

    Raises:
        ForeignCodeError: naming the part that could run code.
        ValueError: if the content is no JSON object.
    """
    program = parse_json(content)
    if not isinstance(program, dict):
        raise ValueError("the program is no JSON object")
    for symbol in program.get("range_constraints") or {}:
        if not SYMBOL.fullmatch(str(symbol)):
            raise ForeignCodeError(f"a range is that of {_short(symbol)}")
    cleaned: dict[str, Any] = _checked({**program, "guards_code": []}, "")
    return cleaned


def _checked(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return _checked_table(value, key)
    if isinstance(value, list):
        return [_checked(inner, key) for inner in value]
    if isinstance(value, str):
        _check_text(value, key)
    return value


def _checked_table(table: dict[str, Any], key: str) -> dict[str, Any]:
    if key == "metadata":
        return {name: table[name] for name in ("nn_module_stack",) if isinstance(table.get(name), str)}
    for name, value in table.items():
        if not _NAME.fullmatch(name) or (value and ("custom_obj" in name or "opaque" in name)):
            raise ForeignCodeError(f"it holds {_short(name)}")
    return {name: _checked(value, name) for name, value in table.items()}


def _check_text(text: str, key: str) -> None:
    if key in ("target", "as_operator"):
        if not is_known_operator(text):
            raise ForeignCodeError(f"{_short(text)} is no operator on tensors")
    elif key == "expr_str":
        if not is_plain_expression(text):
            raise ForeignCodeError(f"the shape expression {_short(text)} is no plain arithmetic")
    elif key in ("in_spec", "out_spec"):
        _check_structure(parse_json(text))
    elif key not in ("as_string", "as_strings") and not _NAME.fullmatch(text):
        raise ForeignCodeError(f"{_short(text)} is no name")


def _short(text: object) -> str:
    return repr(str(text)[:80])


def _check_structure(value: Any) -> None:
    """Look at a structure of inputs or outputs: `[1, {type, context, children_spec}]`, nested."""
    if isinstance(value, list):
        for inner in value:
            _check_structure(inner)
    elif isinstance(value, dict):
        kind, context = value.get("type"), value.get("context")
        if kind not in _STRUCTURES:
            raise ForeignCodeError(f"its inputs or outputs are a {_short(kind)}")
        _check_keys(
            parse_json(context) if isinstance(context, str) and kind != "collections.namedtuple" else context
        )
        _check_structure(value.get("children_spec"))


def _check_keys(context: Any) -> None:
    for name in context if isinstance(context, list) else [context]:
        if not (name is None or isinstance(name, int) or (isinstance(name, str) and _NAME.fullmatch(name))):
            raise ForeignCodeError(f"an input or output is named {_short(name)}")


def is_known_operator(target: str) -> bool:
    """Whether a node's target computes on tensors or sizes and can do nothing else.

    >>> is_known_operator("torch.ops.aten.conv2d.default"), is_known_operator("torch.ops.aten.save.default")
    (True, False)
    """
    if target in _SYMBOLIC or target in _OF_GRAPHS:
        return True
    found = _OPERATOR.fullmatch(target)
    return found is not None and _reads_no_files(f"{found[1]}::{found[2]}", found[3])


def _reads_no_files(name: str, overload: str) -> bool:
    import torch  # heavy, and an optional extra

    # Only the dispatcher's: TorchScript's own, such as aten::save, are found under `torch.ops` too.
    full_name = name if overload == "default" else f"{name}.{overload}"
    if full_name not in torch._C._dispatch_get_all_op_names():
        return False
    arguments = torch._C._get_schema(name, "" if overload == "default" else overload).arguments
    return all(argument.name != "filename" for argument in arguments)

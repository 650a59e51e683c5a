"""Shape expressions of exported programs, which torch evaluates as Python: only bounded arithmetic passes."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

# The classes that torch and sympy print shapes with.
_SUMS = frozenset({"Add", "Max", "Min", "And", "Or"})
_PRODUCTS = frozenset({"Mul"})
_POWERS = frozenset({"Pow", "PowByNatural"})
_FUNCTIONS = frozenset({
    "CeilDiv", "CeilToInt", "CleanDiv", "FloatTrueDiv", "FloorDiv", "FloorToInt", "Identity", "IntTrueDiv",
    "Mod", "ModularIndexing", "Not", "PythonMod", "RoundToInt", "ToFloat", "TruncToFloat", "TruncToInt",
    "Where", "Equality", "Unequality", "LessThan", "StrictLessThan", "GreaterThan", "StrictGreaterThan",
    "Eq", "Ne", "Le", "Lt", "Ge", "Gt",
})  # fmt: skip
_NUMBERS = frozenset({"Integer", "Rational", "Float"})
_ASSUMPTIONS = frozenset({"positive", "nonnegative", "nonpositive", "negative", "integer", "real", "finite"})
SYMBOL = re.compile(r"[a-z]{1,8}\d{1,5}")
_CONSTANTS = frozenset({"oo", "int_oo", "true", "false"})
_FLOAT = re.compile(r"-?\d{1,20}([.]\d{0,20})?(e[+-]?\d{1,3})?")
_LARGEST_INTEGER = 2**63
_LONGEST = 4000
# torch expands expressions, so what counts is how many products they expand to, and of how many factors.
_MOST_TERMS = 1000
_MOST_FACTORS = 64


class _NotPlainError(Exception):
    """A part of an expression that is not allowed."""


def is_plain_expression(text: str) -> bool:
    """Whether a shape expression is arithmetic of named symbols and numbers that ends soon.

    >>> is_plain_expression("Mul(Integer(8), Symbol('s40', positive=True))"), is_plain_expression("s0.evil()")
    (True, False)
    >>> is_plain_expression("Pow(Integer(10), Pow(Integer(10), Integer(10)))")
    False
    """
    if len(text) > _LONGEST:
        return False
    try:
        _expanded(ast.parse(text, mode="eval").body)
    except (_NotPlainError, SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


# Each of these gives how far a part expands: its number of products, and of factors in the longest of them.
_Size = tuple[int, int]


def _expanded(part: ast.expr) -> _Size:
    size = _size_of(part)
    if size[0] > _MOST_TERMS or size[1] > _MOST_FACTORS:
        raise _NotPlainError
    return size


def _size_of(part: ast.expr) -> _Size:
    if isinstance(part, ast.Constant | ast.Name):
        return _leaf(part)
    if isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.USub | ast.UAdd | ast.Not):
        return _expanded(part.operand)
    if isinstance(part, ast.BinOp):
        return _operation(part)
    if isinstance(part, ast.Compare):
        return _sum([part.left, *part.comparators])
    if isinstance(part, ast.Call) and isinstance(part.func, ast.Name):
        return _call(part.func.id, part)
    raise _NotPlainError


def _leaf(part: ast.Constant | ast.Name) -> _Size:
    if isinstance(part, ast.Name):
        is_allowed = part.id in _CONSTANTS or SYMBOL.fullmatch(part.id) is not None
    else:
        value = part.value
        is_allowed = isinstance(value, bool | float) or (
            isinstance(value, int) and abs(value) < _LARGEST_INTEGER
        )
    if not is_allowed:
        raise _NotPlainError
    return 1, 1


def _operation(part: ast.BinOp) -> _Size:
    if isinstance(part.op, ast.Add | ast.Sub | ast.FloorDiv | ast.Div | ast.Mod):
        return _sum([part.left, part.right])
    if isinstance(part.op, ast.Mult):
        return _product([part.left, part.right])
    if isinstance(part.op, ast.Pow):
        return _power(part.left, part.right)
    raise _NotPlainError


def _call(name: str, call: ast.Call) -> _Size:
    if name == "Symbol":
        return _symbol(call)
    if name in _NUMBERS:
        return _number(call)
    if call.keywords:
        raise _NotPlainError
    if name in _PRODUCTS:
        return _product(call.args)
    if name in _POWERS and len(call.args) == 2:
        return _power(*call.args)
    if name in _SUMS or name in _FUNCTIONS:
        return _sum(call.args)
    raise _NotPlainError


def _sum(parts: Sequence[ast.expr]) -> _Size:
    sizes = [_expanded(part) for part in parts]
    return sum(terms for terms, _ in sizes), max((factors for _, factors in sizes), default=1)


def _product(parts: Sequence[ast.expr]) -> _Size:
    terms, factors = 1, 0
    for part in parts:
        size = _expanded(part)
        terms, factors = terms * size[0], factors + size[1]
        if terms > _MOST_TERMS:
            raise _NotPlainError
    return terms, factors


def _power(base: ast.expr, exponent: ast.expr) -> _Size:
    value = exponent
    while isinstance(value, ast.Call | ast.UnaryOp):
        if isinstance(value, ast.Call) and len(value.args) != 1:
            raise _NotPlainError
        value = value.args[0] if isinstance(value, ast.Call) else value.operand
    if not (isinstance(value, ast.Constant) and isinstance(value.value, int)):
        raise _NotPlainError
    _expanded(exponent)
    return _product([base] * min(abs(value.value), _MOST_FACTORS + 1))


def _symbol(call: ast.Call) -> _Size:
    names = [part.value for part in call.args if isinstance(part, ast.Constant)]
    is_named = len(call.args) == len(names) == 1 and SYMBOL.fullmatch(str(names[0]))
    for keyword in call.keywords:
        is_claim = isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, bool)
        if keyword.arg not in _ASSUMPTIONS or not is_claim:
            raise _NotPlainError
    if not is_named:
        raise _NotPlainError
    return 1, 1


def _number(call: ast.Call) -> _Size:
    for part in [*call.args, *(keyword.value for keyword in call.keywords)]:
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            if not _FLOAT.fullmatch(part.value):
                raise _NotPlainError
        else:
            _expanded(part)
    precisions = [keyword.value for keyword in call.keywords if keyword.arg == "precision"]
    if len(precisions) != len(call.keywords) or any(not _is_small(value) for value in precisions):
        raise _NotPlainError
    return 1, 1


def _is_small(part: ast.expr) -> bool:
    return isinstance(part, ast.Constant) and isinstance(part.value, int) and 0 < part.value <= 64

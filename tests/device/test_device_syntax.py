"""The device folder keeps to Python 3.8 and to itself."""

import ast
from functools import cache
from pathlib import Path

import qsens.device
from qsens.deploy import bundle_script, device_script

SCRIPTS = [Path(script.__file__) for script in (bundle_script, device_script)]
FILES = [*sorted(Path(qsens.device.__file__).parent.glob("*.py")), *SCRIPTS]
GENERIC = {"dict", "list", "tuple", "set", "frozenset", "type"}
# Methods of str, Path, int and others that 3.8 does not have.
YOUNGER = {
    "removeprefix",
    "removesuffix",
    "is_relative_to",
    "with_stem",
    "readlink",
    "hardlink_to",
    "bit_count",
}
MODULES_OF_PYTHON_39 = {"zoneinfo", "graphlib", "tomllib"}


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))


def annotations_of(tree):
    """Every node inside an annotation, which `from __future__ import annotations` never evaluates."""
    found = set()
    for node in ast.walk(tree):
        parts = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        for part in parts:
            if isinstance(part, ast.AST):
                found |= {id(inner) for inner in ast.walk(part)}
    return found


def only_for_checkers(tree):
    """Nodes under `if TYPE_CHECKING`."""
    blocks = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    ]
    return {id(inner) for block in blocks for part in block.body for inner in ast.walk(part)}


@cache
def nodes():
    """Every node of every file with its place; a file that 3.8 cannot read is a SyntaxError."""
    found = []
    for path in FILES:
        tree = parsed(path)
        skipped = annotations_of(tree) | only_for_checkers(tree)
        for node in ast.walk(tree):
            found.append((f"{path.name}:{getattr(node, 'lineno', 0)}", node, id(node) not in skipped))
    return found


def test_nothing_that_runs_needs_a_younger_python():
    for where, node, is_run in nodes():
        if not is_run:
            continue
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            assert node.value.id not in GENERIC, f"{where}: {node.value.id}[...] is evaluated"
        if isinstance(node, ast.Attribute):
            assert node.attr not in YOUNGER, f"{where}: {node.attr}"
        if isinstance(node, ast.Call):
            keywords = {keyword.arg for keyword in node.keywords}
            assert not keywords & {"strict", "slots", "kw_only"}, f"{where}: {keywords}"
        if isinstance(node, ast.ImportFrom) and node.module == "datetime":
            assert "UTC" not in [alias.name for alias in node.names], f"{where}: datetime.UTC"


def test_nothing_else_of_qsens_is_imported():
    for where, node, _ in nodes():
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert not (name.partition(".")[0] == "qsens" and not name.startswith("qsens.device")), where
            assert name.partition(".")[0] not in MODULES_OF_PYTHON_39, where

"""`--json` of every command is JSON that any program reads."""

import json
import math
from pathlib import Path

import pytest

import qsens.cli
from qsens.cli.text import echo_json


def refuse(word):
    raise AssertionError(f"{word} is no JSON")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null(capsys, value):
    echo_json({"scores": [{"value": value, "pair": (value, 1.5)}]})
    printed = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert printed == {"scores": [{"value": None, "pair": [None, 1.5]}]}


@pytest.mark.parametrize(
    "path", sorted(Path(qsens.cli.__file__).parent.glob("*.py")), ids=lambda path: path.stem
)
def test_every_command_prints_json_by_one_function(path):
    has_dumps = "json.dumps" in path.read_text(encoding="utf-8")
    assert has_dumps is (path.stem == "text")

"""Hints and documents name only commands and options that exist."""

import ast
import re
from functools import cache
from inspect import Parameter, signature
from pathlib import Path

import click

from qsens.cli.main import main
from qsens.deploy.bundle_script import parser

ROOT = Path(__file__).resolve().parents[2]
# Decisions tell of commands as they were, and of the zoo.
DOCUMENTS = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "decisions"),
]
if not (ROOT / "qsens" / "zoo").exists():  # all else is tested in a copy without it
    DOCUMENTS.remove(ROOT / "docs" / "zoo.md")
# That module writes the command line of another program.
SOURCES = sorted({*(ROOT / "qsens").rglob("*.py")} - {ROOT / "qsens" / "engines" / "tensorrt_files.py"})
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
# `qsens verify bundle --digest X`, up to the end of the line, the code span or the sentence.
CALL = re.compile(r"\bqsens (?P<words>[a-z][a-z0-9-]*(?: [a-z][a-z0-9-]*)*)(?P<rest>[^\n`,;()]*)")
# Options of other programs that hints and documents name.
FOREIGN = {
    *("--constraint", "--system-site-packages"),  # pip, venv
    "--check",  # sha256sum
    *("--format", "--query-gpu", "--query-compute-apps"),  # nvidia-smi
    *("--onnx", "--save", "--profiling", "--export"),  # trtexec, nsys
    *("--nthreads", "--no-dashboard", "--port"),  # dask
    *(
        "--ntasks",
        "--cpus-per-task",
        "--mem-per-cpu",
        "--time",
        "--images",
        "--overlap",
        "--requeue",
    ),  # SLURM, kubectl
    *(
        "--generators",
        "--weights",
        "--placements",
        "--recipes",
        "--budgets",
        "--grids",
        "--metrics",
    ),  # benchmarks
    "--epochs",  # the script that fits the mouth reader
}


def _commands(command, words=()):
    """Every command by the words that call it."""
    found = {words: command}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found |= _commands(command.get_command(context, name), (*words, name))
    return found


@cache
def _options():
    """The options of each command, by the words that call it."""
    return {
        words: {text for parameter in command.params for text in (*parameter.opts, *parameter.secondary_opts)}
        | {"--help"}
        for words, command in _commands(main).items()
    }


def _texts_of(path):
    """What a file says to people: a document's text, a module's strings."""
    content = path.read_text(encoding="utf-8")
    if "--" not in content:
        return []
    if path.suffix == ".md":
        return [content]
    texts = []
    for part in ast.walk(ast.parse(content)):
        if isinstance(part, ast.JoinedStr):
            texts.append(
                "".join(str(piece.value) if isinstance(piece, ast.Constant) else "X" for piece in part.values)
            )
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            texts.append(part.value)
    return texts


@cache
def _known():
    scripts = {text for action in parser()._actions for text in action.option_strings}
    return set().union(*_options().values()) | scripts | FOREIGN


def _wrong(text):
    options = _options()
    for found in OPTION.findall(text):
        if found not in _known():
            yield found
    for call in CALL.finditer(text):
        words = tuple(call["words"].split())
        command = next((words[:length] for length in (3, 2, 1) if words[:length] in options), None)
        if command is None:
            continue
        for option in OPTION.findall(call["rest"]):
            if option not in options[command] | options[()]:
                yield f"qsens {' '.join(command)} {option}"


def test_every_option_that_is_named_exists():
    wrong = [
        (str(path.relative_to(ROOT)), found)
        for path in (*DOCUMENTS, *SOURCES)
        for text in _texts_of(path)
        for found in _wrong(text)
    ]
    assert not wrong


def test_no_command_takes_options_that_have_no_type():
    open_ended = [
        " ".join(words)
        for words, command in _commands(main).items()
        for parameter in signature(command.callback or len).parameters.values()
        if parameter.kind is Parameter.VAR_KEYWORD
    ]
    assert not open_ended

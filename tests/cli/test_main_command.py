"""The command line shell: start-up, errors, exit codes."""

import errno
import subprocess
import sys
from importlib import import_module

import click
import pytest
from click.testing import CliRunner

import qsens
from qsens.cli import main as main_module
from qsens.cli.main import COMMANDS, main
from qsens.core.errors import BudgetError, BuildError, RunFolderError, SpecError, VerificationError
from qsens.core.spec import SweepSpec
from qsens.run.loop import StoppedError

HEAVY_FOR_HELP = ("torch", "onnx", "pandas", "matplotlib", "scipy")
HEAVY = (
    "torch",
    "onnx",
    "onnxruntime",
    "pandas",
    "matplotlib",
    "scipy",
    "numpy",
    "PIL",
    "jsonschema",
    "filelock",
)


@pytest.fixture
def run_with(monkeypatch):
    """Runs `qsens plugins` with a body that raises."""

    def run_with(error, *arguments):
        # As a line of qsens, not as one of a user's own code.
        ours = {"__name__": "qsens.failing", "error": error}
        exec("def failing(): raise error", ours)
        monkeypatch.setattr("qsens.cli.main.plugins", click.command()(ours["failing"]))
        return CliRunner().invoke(main, [*arguments, "plugins"])

    return run_with


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_help_loads_nothing_heavy(arguments):
    code = (
        "import sys\nfrom qsens.cli.main import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_there_with_the_help_of_the_table(name):
    module, _, attribute = COMMANDS[name][0].partition(":")
    command = getattr(import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


HELP_OF_ALL = f"""
import sys
from qsens.cli.main import COMMANDS, main

for command in COMMANDS:
    try:
        main([command, "--help"])
    except SystemExit as error:
        assert not error.code
    loaded = [name for name in {HEAVY_FOR_HELP} if name in sys.modules]
    assert not loaded, (command, loaded)
"""


def test_the_help_of_no_command_loads_torch():
    """One process for all: the first command that loads something heavy is named, and what it loads."""
    result = subprocess.run([sys.executable, "-c", HELP_OF_ALL], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("Usage: ") == len(COMMANDS)


def test_the_version_is_that_of_the_package():
    assert qsens.__version__ in CliRunner().invoke(main, ["--version"]).output


@pytest.mark.parametrize(("typed", "meant"), [("swep", "sweep"), ("raport", "report"), ("selectt", "select")])
def test_a_mistyped_command_gets_the_closest(typed, meant):
    result = CliRunner().invoke(main, [typed])
    assert result.exit_code == 2
    assert f"no command named {typed!r}" in result.stderr
    assert f"did you mean {meant!r}?" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SpecError("bad", "fix"), 2),
        (BuildError("bad", "fix"), 1),
        (RunFolderError("bad", "fix"), 1),
        (BudgetError("bad", "fix"), 3),
        (VerificationError("bad", "fix"), 4),
    ],
)
def test_an_error_is_two_lines_on_stderr_and_its_exit_code(run_with, error, code):
    result = run_with(error)
    assert result.exit_code == code
    assert result.stderr == "Error: bad\nHint: fix\n"
    assert result.stdout == ""


def test_an_error_without_a_hint_is_one_line(run_with):
    assert run_with(SpecError("bad")).stderr == "Error: bad\n"


def test_debug_shows_the_traceback_too(run_with):
    result = run_with(SpecError("bad", "fix"), "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("Error: bad\nHint: fix\n")


def test_ctrl_c_is_130(run_with):
    result = run_with(KeyboardInterrupt())
    assert result.exit_code == 130
    assert result.stderr.startswith("Stopped")


def test_a_stopped_sweep_is_130_and_says_how_to_go_on(run_with):
    result = run_with(StoppedError("stopped after 3 maps, all of them saved", "the same command goes on"))
    assert result.exit_code == 130
    assert "Hint: the same command goes on" in result.stderr


SYSTEM = [
    (OSError(errno.ENOSPC, "No space left on device", "big.npy"), "no space left while writing big.npy"),
    (OSError(errno.ENOSPC, "No space left on device"), "no space left"),
    (PermissionError(errno.EACCES, "Permission denied", "/root/x"), "/root/x: Permission denied"),
    (MemoryError(), "out of memory"),
    (ModuleNotFoundError("No module named 'torch'", name="torch"), "qsens[torch]"),
]


@pytest.mark.parametrize(("error", "text"), SYSTEM)
def test_what_the_system_refuses_is_a_clear_line(run_with, error, text):
    result = run_with(error)
    assert result.exit_code == 1
    assert text in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "error", [KeyError("bug"), ModuleNotFoundError("No module named 'qsens.bug'", name="qsens.bug")]
)
def test_a_bug_keeps_its_traceback(run_with, error):
    assert run_with(error).exception is error


def test_the_module_runs():
    result = subprocess.run(
        [sys.executable, "-m", "qsens", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith("qsens")


def test_only_expected_errors_have_a_failure():
    assert main_module.failure_of(ValueError("bug")) is None
    assert main_module.failure_of(OSError(errno.EIO, "Input/output error")) is None


def test_the_help_of_a_sweep_has_sections_defaults_and_the_names_of_plugins():
    text = " ".join(CliRunner().invoke(main, ["sweep", "--help"]).stdout.split())
    sections = ("Generator:", "Inputs:", "Scoring:", "Search:", "INT8:", "Other:")
    assert [text.index(name) for name in sections] == sorted(text.index(name) for name in sections)
    for said in (f"[default: {SweepSpec().repair}]", f"[default: {SweepSpec().strategy}]"):
        assert said in text
    assert "guided" in text[text.index("--strategy") : text.index("--by")]
    assert "lite0" in text[text.index("--extractor") : text.index("--inception-weights")]

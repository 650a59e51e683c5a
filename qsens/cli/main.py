"""The `qsens` command and `qsens plugins`: subcommands load when used, errors become two lines."""

import contextlib
import errno
import importlib
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import click

from qsens import __version__
from qsens.cli.process import CommandProcess
from qsens.cli.repeated_options import refuse_repeats
from qsens.cli.shown_text import only_shown, said_warnings
from qsens.cli.text import echo_json, text_table
from qsens.core.errors import QsensError, SpecError, name_hint
from qsens.core.plugins import list_plugins

# Name of a subcommand: the module and attribute that hold it, and one line of help.
CommandTable = Mapping[str, tuple[str, str]]
# Name: module, attribute and one line of help. The modules load only when their command is used.
COMMANDS = {
    "demo": ("qsens.cli.demo:demo", "Run the whole journey on a generator and data that qsens ships."),
    "sweep": ("qsens.cli.sweep:sweep", "Score precision maps of a generator; run again to resume."),
    "plan": ("qsens.cli.plan:plan", "Say what a sweep would do and how long it would take."),
    "layers": ("qsens.cli.layers:layers", "List the layers whose precision can be chosen."),
    "report": ("qsens.cli.report:report", "Write figures, tables and report.html for a run."),
    "compare": ("qsens.cli.compare:compare", "Compare several runs in one table and one figure."),
    "select": ("qsens.cli.select:select", "Choose the cheapest precision map within a budget."),
    "export": ("qsens.cli.export:export", "Write a map as a bundle that rebuilds and checks itself."),
    "verify": ("qsens.cli.verify:verify", "Rebuild a bundle, audit its precisions, compare its outputs."),
    "bench": ("qsens.cli.bench:bench", "Measure latency, memory, size and energy of maps."),
    "devices": ("qsens.cli.devices:devices", "Compare latency tables of several devices."),
    "calibration": ("qsens.cli.calibration:calibration", "Describe and check sets of images or arrays."),
    "fid": ("qsens.cli.fid:fid", "Distance between two folders of images."),
    "plugins": ("qsens.cli.main:plugins", "List plug-ins and what keeps one from working."),
    "doctor": ("qsens.cli.doctor:doctor", "Say what this machine can run, and why not."),
}
INTERRUPTED = 130
# What a shell says of a program that SIGPIPE ended, as the reader of an output that went away ends others:
# 1 would say that something is wrong.
OUTPUT_CLOSED = 141


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins(*, as_json: bool) -> None:
    """List plug-ins and what keeps one from working."""
    records = list_plugins()
    if as_json:
        echo_json([asdict(record) for record in records])
        return
    rows = [
        (record.group, record.name, record.distribution, record.target, record.problem or "ok")
        for record in records
    ]
    click.echo(text_table(("group", "name", "from", "target", "state"), rows))


class LazyGroup(click.Group):
    """A group over a table of commands; an unknown name gets the closest match."""

    def __init__(self, *arguments: Any, commands_by_name: CommandTable, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._built_in = commands_by_name

    def table(self) -> CommandTable:
        """All commands, in the order in which help lists them."""
        return self._built_in

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        # The built-in table first: looking for plug-ins takes longer.
        known = self._built_in if cmd_name in self._built_in else self.table()
        if cmd_name not in known:
            return None
        module, _, attribute = known[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        is_option = not args or args[0].startswith("-")
        if not is_option and args[0] not in self._built_in and args[0] not in self.table():
            hint = name_hint(args[0], self.table(), f"commands: {', '.join(self.table())}")
            raise SpecError(f"no command named {args[0]!r}", hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table().items()])


@dataclass(frozen=True)
class Failure:
    """An expected error as it is shown, and the exit code."""

    message: str
    hint: str
    exit_code: int

    def show(self, process: CommandProcess) -> None:
        """Write the message and the hint to stderr."""
        if not self.message:
            return
        text = f"Error: {self.message}"
        if self.exit_code == INTERRUPTED:
            text = process.words_of_stop(self.message)
        with contextlib.suppress(OSError):  # stderr may be what failed
            click.echo(text, err=True)
            if self.hint:
                click.echo(f"Hint: {self.hint}", err=True)


STOPPED = Failure("stopped", "", INTERRUPTED)


class MainGroup(LazyGroup):
    """The built-in commands and those of plug-ins; errors have one door out."""

    def table(self) -> CommandTable:
        # Reading installed metadata is slow, and a built-in command does not need it.
        from qsens.core.plugins import command_tables

        added = {name: entry for table in command_tables() for name, entry in table.items()}
        return {**COMMANDS, **{name: entry for name, entry in added.items() if name not in COMMANDS}}

    def main(self, *arguments: Any, **options: Any) -> Any:
        with only_shown(), said_warnings():
            return super().main(*arguments, **options)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        extra["obj"] = extra.get("obj") or CommandProcess()
        with _one_door(extra["obj"]):
            return super().make_context(info_name, args, parent, **extra)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            refuse_repeats(command, rest, ctx)
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        with _one_door(ctx.obj, is_debug=bool(ctx.params.get("debug"))):
            return super().invoke(ctx)


@contextlib.contextmanager
def _one_door(process: CommandProcess, *, is_debug: bool = False) -> Iterator[None]:
    """Turn an expected error into its two lines and its exit code."""
    try:
        yield
    except (click.exceptions.Exit, click.ClickException, click.Abort):
        raise
    except (Exception, KeyboardInterrupt) as error:
        failure = failure_of(error)
        # A stop in the middle of an import or of a library's code comes out as any exception.
        if process.stopped_by is not None and (failure is None or failure.exit_code != INTERRUPTED):
            failure = STOPPED
        if failure is None:
            raise
        if is_debug:
            traceback.print_exc(file=sys.stderr)
        failure.show(process)
        raise click.exceptions.Exit(failure.exit_code) from None


def failure_of(error: BaseException) -> Failure | None:
    """An expected error as the user reads it; `None` for one that deserves its traceback."""
    if isinstance(error, QsensError):
        return Failure(error.message, error.hint, error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        return STOPPED
    if isinstance(error, MemoryError):
        return Failure("out of memory", "use a smaller --batch-size or fewer --evaluation-samples", 1)
    if isinstance(error, ModuleNotFoundError):
        return _missing_module(error)
    failure = _failure_of_system(error) if isinstance(error, OSError) else None
    return failure or _failure_in_plugin(error)


def _failure_in_plugin(error: BaseException) -> Failure | None:
    # Reading installed metadata is slow, and only a failure needs it.
    from qsens.core.plugins import failure_in_plugin

    found = failure_in_plugin(error)
    return None if found is None else Failure(found.message, found.hint, found.exit_code)


def _failure_of_system(error: OSError) -> Failure | None:
    if error.errno == errno.EPIPE:
        return Failure("", "", OUTPUT_CLOSED)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = f" while writing {error.filename}" if error.filename else ""
        return Failure(f"no space left{place}", "free some space and run the same command again", 1)
    if error.filename is not None:
        return Failure(f"{error.filename}: {error.strerror}", "check the path and its permissions", 1)
    return None


def _missing_module(error: ModuleNotFoundError) -> Failure | None:
    # Reading installed metadata is slow, and only a failure needs it.
    from qsens.core.plugins import hint_for_missing_module

    module = (error.name or "").partition(".")[0]
    if module in ("", "qsens"):
        return None
    return Failure(f"the module {module!r} is not installed", hint_for_missing_module(module), 1)


@click.command(
    cls=MainGroup, commands_by_name=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error too.")
@click.version_option(__version__, prog_name="qsens")
def main(*, debug: bool) -> None:
    """Find which layers of a generator survive INT8 and which must stay in FP16.

    Begin with `qsens demo`, or with `qsens sweep CHECKPOINT --calibration FOLDER`.
    """


def run(process: CommandProcess) -> int:
    """Run the command line of this process; returns the exit status."""
    status = 0
    try:
        main(prog_name="qsens", obj=process)
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        status = end.code
    return status or _status_of_output(process)


def _status_of_output(process: CommandProcess) -> int:
    """0 where all output is written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        failure = failure_of(error)
        if failure is None:
            raise
        failure.show(process)
        return failure.exit_code
    return 0

"""A click group whose subcommands are imported when they are used."""

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

import click

from qsens.core.errors import SpecError

# Name of a subcommand: the module and attribute that hold it, and one line of help.
CommandTable = Mapping[str, tuple[str, str]]


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
            close = difflib.get_close_matches(args[0], self.table(), n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"commands: {', '.join(self.table())}"
            raise SpecError(f"no command named {args[0]!r}", hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table().items()])

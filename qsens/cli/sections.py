"""Help of a command with many options: sections, defaults, and the names of plug-ins."""

from collections.abc import Callable
from functools import partial
from typing import Any

import click

from qsens.core.plugins import names

MORE = "Other"


class SectionOption(click.Option):
    """An option that stands in a section of the help; `plugins` is the group whose names its help lists."""

    def __init__(self, *arguments: Any, section: str, plugins: str | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.section = section
        self.plugins = plugins

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        if record is None or self.plugins is None:
            return record
        # Asked for when help is shown: reading installed metadata takes longer than most commands.
        return record[0], f"{record[1]}  [installed: {', '.join(names(self.plugins))}]"


class SectionedCommand(click.Command):
    """A command whose help shows its options by section, those of none last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records: dict[str, list[tuple[str, str]]] = {}
        options = [option for option in self.get_params(ctx) if isinstance(option, click.Option)]
        for option in sorted(options, key=lambda option: not isinstance(option, SectionOption)):
            record = option.get_help_record(ctx)
            if record is not None:
                records.setdefault(getattr(option, "section", MORE), []).append(record)
        for section, lines in records.items():
            with formatter.section(section):
                formatter.write_dl(lines)


def in_section(section: str) -> Callable[..., Any]:
    """`click.option` for one section."""
    return partial(click.option, cls=SectionOption, section=section)

"""Refuses an option that is given twice where only one value can count: click would take the last one."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

import click

from qsens.core.errors import SpecError

Value = TypeVar("Value")


def refuse_repeats(command: click.Command, arguments: Sequence[str], parent: click.Context) -> None:
    """Check the arguments of a command, and of its subcommand where it is a group.

    Raises:
        SpecError: naming an option that is given more than once and takes one value.
    """
    context = click.Context(command, parent=parent)
    try:
        _, rest, order = command.make_parser(context).parse_args(list(arguments))
    except click.UsageError:
        return  # click itself says what is wrong when it reads them
    for option, count in Counter(filter(_takes_one_value, order)).items():
        if count > 1:
            raise SpecError(
                f"{option.opts[0]} is given {count} times, and only one value can count", "give it once"
            )
    if isinstance(command, click.Group) and rest:
        below = command.get_command(context, rest[0])
        if below is not None:
            refuse_repeats(below, rest[1:], context)


def _takes_one_value(parameter: click.Parameter) -> bool:
    """Neither an argument nor `multiple`, nor a flag that says the same however often it is given."""
    if not isinstance(parameter, click.Option) or parameter.multiple or parameter.count:
        return False
    return not parameter.is_flag or bool(parameter.secondary_opts)


def one_value_each(flag: str, pairs: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    """The values of a flag such as `--option KEY=VALUE`, by key.

    Raises:
        SpecError: for a key that comes twice, with both values.
    """
    found: dict[str, Value] = {}
    for key, value in pairs:
        if key in found:
            raise SpecError(
                f"{flag} gives {key!r} twice: {found[key]!r} and {value!r}", "give each name one value"
            )
        found[key] = value
    return found

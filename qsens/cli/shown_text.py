"""The outputs of a command: nothing in a name or a message steers its terminal, warnings are one line."""

import codecs
import contextlib
import io
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import click

from qsens.core.errors import QsensWarning
from qsens.core.shown_text import ShownText, steering


@contextlib.contextmanager
def only_shown() -> Iterator[None]:
    """Have stdout and stderr show what would steer a terminal."""
    shown = {name: _shown(getattr(sys, name)) for name in ("stdout", "stderr")}
    for name, stream in shown.items():
        setattr(sys, name, stream)
    try:
        yield
    finally:
        for name, stream in shown.items():
            if getattr(sys, name) is stream:  # click puts another one where the reader has gone away
                setattr(sys, name, steering(stream))


@contextlib.contextmanager
def said_warnings() -> Iterator[None]:
    """Have each warning of qsens said once, in a line of its own; others are shown as Python does."""
    usual, said = warnings.showwarning, set[str]()

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, QsensWarning):
            usual(message, category, *place, **more)
        elif str(message) not in said:
            said.add(str(message))
            click.echo(f"Warning: {message}", err=True)

    warnings.showwarning = show
    try:
        yield
    finally:
        if warnings.showwarning is show:
            warnings.showwarning = usual


def _shown(stream: Any) -> Any:
    if isinstance(stream, ShownText):
        return stream
    # click goes around a stream of ASCII and writes UTF-8 to the bytes below it.
    if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name == "ascii":
        stream.reconfigure(encoding="utf-8")
    return ShownText(stream)

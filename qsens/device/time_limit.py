"""A limit on work that cannot be stopped from within: an engine whose graph never ends."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import Iterator


@contextlib.contextmanager
def process_limit(seconds: float, what: str) -> Iterator[None]:
    """Ends this process with exit code 1 if the block takes longer; `what` is said to take that long.

    A runtime that is busy hears neither signals nor exceptions of Python.
    """
    timer = threading.Timer(seconds, _end, (seconds, what))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(seconds: float, what: str) -> None:
    sys.stderr.write(f"Error: {what} took longer than {seconds:g} s\nHint: its graph may never end\n")
    sys.stderr.flush()
    os._exit(1)

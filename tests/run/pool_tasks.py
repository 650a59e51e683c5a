"""What the tests of worker pools run in other processes."""

import os
import signal
import time
from pathlib import Path


def double(value):
    return 2 * value


def process_id():
    return os.getpid()


def fail(text):
    raise ValueError(text)


class UnpicklableError(Exception):
    def __init__(self):
        super().__init__("it holds a function", lambda: None)


def fail_unpicklably():
    raise UnpicklableError


def interrupt_myself(number):
    os.kill(os.getpid(), number)
    time.sleep(0.05)
    return "went on"


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for(path, other=None):
    """The process id, once the file is there; tells `other` that it waits."""
    if other is not None:
        Path(other).write_text(str(os.getpid()))
    while not Path(path).exists():
        time.sleep(0.01)
    return os.getpid()

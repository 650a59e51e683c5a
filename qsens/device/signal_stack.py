"""Keeps the thread's stack for signal handlers what it was, while a library is loaded that changes it."""

from __future__ import annotations

import ctypes
import sys
from contextlib import contextmanager
from typing import Iterator


class SignalStack(ctypes.Structure):
    """POSIX's `stack_t`, in the order in which Linux has its fields."""

    _fields_ = (("ss_sp", ctypes.c_void_p), ("ss_flags", ctypes.c_int), ("ss_size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Put the calling thread's alternate signal stack back when the `with` block ends.

    OpenVINO's CPU plug-in sets one that just holds the registers of AVX-512. Python handles signals there,
    finds no room, and Ctrl-C ends in a segmentation fault.
    """
    before = signal_stack()
    try:
        yield
    finally:
        if before is not None:
            ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)


def signal_stack() -> SignalStack | None:
    """The calling thread's alternate signal stack; `None` where the system is not Linux."""
    if not sys.platform.startswith("linux"):
        return None
    found = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found))
    return found

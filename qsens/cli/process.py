"""The process around a command: a signal ends it in order, the next at once; its outputs may be closed."""

import atexit
import contextlib
import os
import select
import signal
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RAISE_AGAIN_S = 0.01
LOOK_S = 0.1
# A terminal that closes and a machine that shuts down send several at once; a person takes longer.
TOGETHER_S = 0.5
# How long native code may keep this process from hearing of a signal.
PATIENCE_S = 10.0


class CommandProcess:
    """This process while it runs one command. `stopped_by` is the first signal that asked it to stop."""

    def __init__(self) -> None:
        self.stopped_by: signal.Signals | None = None
        self._stopped_s = 0.0
        self._heard_s = 0.0
        self._owner = os.getpid()
        self._is_ending = False
        self._status = 1

    def begin(self) -> None:
        """Take signals as requests to stop, but for those that are ignored, as `nohup` does."""
        # The first to be registered is the last to be called. What the interpreter and libraries take down
        # after that may hang or crash, and a signal would kill: Python no longer listens then.
        atexit.register(self._leave_last)
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._hear)
        _open_closed_streams()
        self._start_watch()
        sys.unraisablehook = self._hear_again

    def end(self, status: int) -> NoReturn:
        """End with that status, or the one of the signal that came; a signal now ends at once."""
        self._is_ending = True
        self._status = status if self.stopped_by is None else 128 + self.stopped_by
        sys.exit(self._status)

    def words_of_stop(self, message: str = "stopped") -> str:
        """The message of a stop as a sentence, which names the signal where it was not Ctrl-C."""
        number = self.stopped_by
        name = "" if number is None or number is signal.SIGINT else f" by {number.name}"
        return f"Stopped{name}{message.removeprefix('stopped')}"

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        self._heard_s = time.monotonic()
        if self.stopped_by is None:
            self.stopped_by, self._stopped_s = signal.Signals(number), time.monotonic()
            if not self._is_ending:
                raise KeyboardInterrupt
        elif not self._is_ending and time.monotonic() - self._stopped_s < TOGETHER_S:
            return
        self._status = 128 + self.stopped_by
        self._leave()

    def _hear_again(self, unraisable: "UnraisableHookArgs") -> None:
        """Raise a stop again that came where Python drops exceptions, such as a destructor."""
        if self.stopped_by is None:
            sys.__unraisablehook__(unraisable)
            return
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            return  # a stop leaves things half open, a zip archive for one, that say so when they go
        number, self.stopped_by = self.stopped_by, None
        # Raised in here it would be dropped again.
        signal.signal(signal.SIGALRM, lambda _, frame: self._hear(number, frame))
        signal.setitimer(signal.ITIMER_REAL, RAISE_AGAIN_S)

    def _start_watch(self) -> None:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        # What a library forks is ended by signals as any process, and not this one with it.
        os.register_at_fork(after_in_child=_forget_signals)
        with contextlib.suppress(RuntimeError):  # a machine without a thread to spare
            threading.Thread(target=self._watch, args=(reader,), daemon=True).start()

    def _watch(self, pipe: int) -> None:
        """End where a signal stays unheard, or the next one: native code may never return."""
        unheard: list[int] = []
        since_s = 0.0
        while True:
            if self._heard_s > since_s - TOGETHER_S:
                unheard = []
            ready, _, _ = select.select([pipe], [], [], LOOK_S if unheard else None)
            came = [number for number in os.read(pipe, 64) if self._is_for_me(number)] if ready else []
            now = time.monotonic()
            if not unheard:
                unheard, since_s = came, now
            elif now - since_s >= (TOGETHER_S if came or self.stopped_by is not None else PATIENCE_S):
                self._end_unheard(unheard[0])

    def _end_unheard(self, number: int) -> NoReturn:
        self.stopped_by = self.stopped_by or signal.Signals(number)
        with contextlib.suppress(OSError):
            os.write(2, f"{self.words_of_stop()}\n".encode())
        os._exit(128 + self.stopped_by)

    def _is_for_me(self, number: int) -> bool:
        return number in STOP_SIGNALS and signal.getsignal(number) == self._hear

    def _leave_last(self) -> None:
        if os.getpid() == self._owner:  # not a fork that a library made
            self._leave()

    def _leave(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            # The signal may have come in the middle of a write.
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                stream.flush()
        os._exit(self._status)


def _open_closed_streams() -> None:
    """A file opened later would take the number of a closed output, and all that is printed with it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003 - it takes no names
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


def _forget_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)

"""Progress as a line of text on stderr, or as a bar in a notebook; it never goes back."""

import importlib
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from qsens.core.interfaces import Progress
from qsens.core.shown_text import steering
from qsens.device.visible_text import visible_name
from qsens.run.loop import silent

BAR_WIDTH = 24
MAPS = "maps"


class Pace:
    """The share that is done of each phase, and the time left. A label `phase: detail` names its phase."""

    def __init__(self) -> None:
        self.phase = ""
        self._start = 0.0
        self._first = 0
        self._shares: dict[str, float] = {}

    def hear(self, done: int, total: int, label: str) -> bool:
        """Take a step; true where it is the first of a phase."""
        before, separator, _ = label.partition(": ")
        phase = before if separator else MAPS
        is_new = phase != self.phase
        if is_new:
            self.phase, self._start, self._first = phase, time.monotonic(), done
        # A search plans more as it goes: what was shown as done stays so.
        share = done / total if total else 1.0
        self._shares[phase] = max(share, self._shares.get(phase, 0.0))
        return is_new

    @property
    def share(self) -> float:
        """The share of the phase that is done, 0 to 1."""
        return self._shares[self.phase]

    def text(self, done: int, total: int, label: str) -> str:
        """The state of the phase, as `4 of 21, 09:18 to go: INT8 everywhere`."""
        steps, time_left = done - self._first, ""
        if steps > 0 and done < total:
            left_s = int((time.monotonic() - self._start) / steps * (total - done))
            time_left = f", {left_s // 60:02d}:{left_s % 60:02d} to go"
        return f"{done} of {total}{time_left}: {visible_name(label)}"


class ProgressLine:
    """A `Progress` callable that writes a line for each phase to stderr; `with` ends the line.

    Where stderr is no terminal, every map has a line, and every other phase one as it begins.
    """

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._pace = Pace()
        self._is_open = False

    def __call__(self, done: int, total: int, label: str) -> None:
        is_new = self._pace.hear(done, total, label)
        filled = round(BAR_WIDTH * self._pace.share)
        bar = "#" * filled + "-" * (BAR_WIDTH - filled)
        line = f"[{bar}] {self._pace.text(done, total, label)}"
        if self._is_terminal:
            end = "\n" if is_new and self._is_open else ""
            # A line that wraps could not be written over.
            width = shutil.get_terminal_size().columns - 1
            steering(sys.stderr).write(f"{end}\r\x1b[K{line[:width]}")
            self._is_open = True
        elif is_new or self._pace.phase == MAPS:
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def __enter__(self) -> "ProgressLine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the line."""
        if self._is_open:
            sys.stderr.write("\n")
            sys.stderr.flush()
            self._is_open = False


class NotebookBar:
    """A `Progress` callable that draws one bar below the cell of a notebook."""

    def __init__(self, display: Any) -> None:
        self._handle = display({"text/plain": ""}, raw=True, display_id=True)
        self._pace = Pace()

    def __call__(self, done: int, total: int, label: str) -> None:
        self._pace.hear(done, total, label)
        text = self._pace.text(done, total, label)
        escaped = text.replace("&", "&amp;").replace("<", "&lt;")
        bar = f"<progress max='1' value='{self._pace.share:.3f}'></progress> {escaped}"
        self._handle.update({"text/plain": text, "text/html": bar}, raw=True)


@contextmanager
def shown_progress(wish: bool | Progress) -> Iterator[Progress]:  # noqa: FBT001 - a wish or a callback
    """The progress that a caller wishes: `True` shows it where people look, `False` nowhere."""
    if not isinstance(wish, bool):
        yield wish
    elif not wish:
        yield silent
    elif (display := _notebook_display()) is not None:
        yield NotebookBar(display)
    else:
        with ProgressLine() as line:
            yield line


def _notebook_display() -> Any:
    """The display function of a running notebook, else `None`."""
    python = sys.modules.get("IPython")
    shell = None if python is None else python.get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    return importlib.import_module("IPython.display").display

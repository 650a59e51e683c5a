"""A progress line on stderr with the time left; plain lines where stderr is no terminal."""

import shutil
import sys
import time
from types import TracebackType

from qsens.cli.shown_text import steering
from qsens.device.visible_text import visible_name

BAR_WIDTH = 24


class ProgressLine:
    """A `Progress` callable; `with` ends the line. A label `phase: detail` is timed by phase."""

    def __init__(self, *, is_shown: bool = True) -> None:
        self._is_shown = is_shown
        self._is_terminal = sys.stderr.isatty()
        self._phase = ""
        self._start = 0.0
        self._first = 0
        self._is_open = False

    def __call__(self, done: int, total: int, label: str) -> None:
        before, separator, _ = label.partition(": ")
        phase = before if separator else "maps"
        if phase != self._phase:
            self._phase, self._start, self._first = phase, time.monotonic(), done
        if self._is_shown:
            self._write(done, total, label)

    def __enter__(self) -> "ProgressLine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_open:
            sys.stderr.write("\n")
            sys.stderr.flush()

    def _write(self, done: int, total: int, label: str) -> None:
        filled = round(BAR_WIDTH * done / total) if total else BAR_WIDTH
        bar = "#" * filled + "-" * (BAR_WIDTH - filled)
        line = f"[{bar}] {done}/{total} {self._time_left(done, total)} {visible_name(label)}"
        if self._is_terminal:
            # A line that wraps could not be written over.
            steering(sys.stderr).write(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}")
            self._is_open = True
        elif self._phase == "maps":
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def _time_left(self, done: int, total: int) -> str:
        steps = done - self._first
        if steps < 1:
            return "left --:--"
        left_s = (time.monotonic() - self._start) / steps * (total - done)
        return f"left {int(left_s) // 60:02d}:{int(left_s) % 60:02d}"

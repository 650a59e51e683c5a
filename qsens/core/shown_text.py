"""A stream of text that nothing in a name or a message steers."""

from collections.abc import Iterable
from typing import Any, TextIO

from qsens.device.visible_text import visible_text


class ShownText:
    """A text stream that shows control characters as escapes, and characters that it cannot write."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write the text; returns its length."""
        encoding = self.stream.encoding or "utf-8"
        self.stream.write(visible_text(text).encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def steering(stream: TextIO) -> TextIO:
    """The stream that steers the terminal: for a line that is written over."""
    return stream.stream if isinstance(stream, ShownText) else stream

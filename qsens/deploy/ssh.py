"""A device over the system's ssh: one connection, files that travel by content, one job after the other."""

import contextlib
import hashlib
import io
import json
import queue
import re
import shlex
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from qsens.core.errors import QsensError, SshError
from qsens.deploy import device_script
from qsens.device.plain_values import PlainValue, parse_json
from qsens.device.visible_text import visible_text

PYTHON = "python3"
OLDEST_PYTHON = (3, 8)
# A device that sleeps answers nothing; one that falls asleep is noticed after some 60 seconds.
_OPTIONS = ("ConnectTimeout=20", "ServerAliveInterval=15", "ServerAliveCountMax=4")
_HELLO = "qsens-device"
# Python of any version reads this; a login script may have written something before it.
_FIRST = (
    f"import sys; print('\\n{_HELLO}', sys.version_info[0], sys.version_info[1]); sys.stdout.flush(); "
    "exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))"
)
_HOST = re.compile(r"[^\s\x00-\x1f-][^\s\x00-\x1f]*")
_LONGEST_LINE = 2**26
_MOST_LINES_BEFORE = 1000
_LAST_LINES = 20
_LONGEST_WORDS = 400
_ENDS_S = 30.0
_PIECE_BYTES = 2**20
Files = Mapping[str, Path | bytes]


class Device:
    """A device while it is connected; `with` removes what was copied there, or says where it stays.

    `host` is what `ssh` takes (`user@host`, or a name of its configuration), `python` the interpreter there.
    """

    def __init__(self, host: str, python: str = PYTHON) -> None:
        if _HOST.fullmatch(host) is None:
            raise SshError(f"{host!r} is no host", "give what ssh takes, for example user@host")
        self.host = host
        self.folder = ""
        self.python = python
        self._lines: queue.Queue[bytes] = queue.Queue(maxsize=64)
        self._words: deque[str] = deque(maxlen=_LAST_LINES)
        self.is_lost = False
        self._is_running = False
        self._stops_copying = False

    def __enter__(self) -> "Device":
        if shutil.which("ssh") is None:
            raise SshError("there is no ssh on this machine", "install OpenSSH's client")
        there = f"exec {shlex.quote(self.python)} -c {shlex.quote(_FIRST)}"
        options = [part for option in _OPTIONS for part in ("-o", option)]
        # Ctrl-C reaches the whole terminal, and the connection is needed for tidying up.
        unstopped = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
        pipe = subprocess.PIPE
        command = [*unstopped, "ssh", "-T", *options, "--", self.host, there]
        self._ssh = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
        self._readers = [
            threading.Thread(target=self._read_lines, args=(self._ssh.stdout,), daemon=True),
            threading.Thread(target=self._read_words, args=(self._ssh.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        try:
            self._begin()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Have the folder removed; raises `SshError` where it stays and nothing else went wrong."""
        try:
            left = "" if self.is_lost else self._end()  # a loss says itself what stays
        except (SshError, queue.Empty):
            left = self.folder
        finally:
            self._close()
        if left and error is None:
            raise SshError(f"{left} on {self.host} could not be removed", "remove it there")
        if left and isinstance(error, QsensError):
            error.message += f" ({left} on {self.host} could not be removed)"

    def found(self, modules: Sequence[str]) -> list[str]:
        """Those of the Python modules that are installed there."""
        self._send({"do": "find", "modules": list(modules)})
        answer = self._receive().at("found")
        return [entry.one_of(list(modules)) for entry in answer.items()]

    def copy(self, place: str, files: Files) -> None:
        """Have a folder `place` there hold these files and no others; what is there already is not sent.

        Raises:
            SshError: for a device without space, or a lost connection.
        """
        rows = [(name, *_digest_and_size(content)) for name, content in files.items()]
        self._send({"do": "copy", "place": place, "files": rows})
        by_digest = {digest: files[name] for name, digest, _ in rows}
        for entry in self._receive().at("missing").items():
            digest, start = (part.value for part in entry.items(at_least=2))
            if digest not in by_digest or not isinstance(start, int):
                raise self._strange(f"it asks for {digest!r}")
            self._send_whole(by_digest[digest], start)
        self._receive().at("copied")

    def run(self, job: Mapping[str, Any]) -> Iterator[PlainValue]:
        """Answers of a job there as they come. Ctrl-C stops the job, and is raised after its last answer.

        Raises:
            SshError: for what failed there, with the device's words, or a lost connection.
        """
        self._send({"do": "run", "job": job})
        self._is_running = True
        answer = self._next_answer()
        while "ended" not in answer.value:
            yield answer
            answer = self._next_answer()
        if not self._is_running:
            raise KeyboardInterrupt
        self._end_job(b"done\n")
        if answer.at("ended").value != 0:
            words = _last_line(str(answer.at("words").value)) or f"it ended with {answer.value['ended']!r}"
            raise SshError(f"{self.host}: {words}", f"see that the runtime works there, in {self.python}")

    def _begin(self) -> None:
        version = self._python_version()
        if version < OLDEST_PYTHON:
            raise SshError(
                f"{self.python} on {self.host} is Python {version[0]}.{version[1]}",
                "it takes 3.8 or later: name another one there with --python",
            )
        script = Path(device_script.__file__).read_bytes()
        self._write(b"%d\n%s" % (len(script), script))
        self.folder = self._receive().at("folder").text()

    def _python_version(self) -> tuple[int, int]:
        for _ in range(_MOST_LINES_BEFORE):
            line = self._next_line()
            match = re.fullmatch(rb"%s (\d{1,3}) (\d{1,3})\s*" % _HELLO.encode(), line)
            if match is not None:
                return int(match[1]), int(match[2])
            if not line:
                raise self._unreached()
        raise self._strange("it writes without end before anything was asked")

    def _unreached(self) -> SshError:
        """The error of a connection that was never made, by ssh's own words."""
        code, words = self._ended(), " ".join(self._words)
        said = _last_line("\n".join(self._words))
        if code == 127:
            return SshError(
                f"{self.host} has no {self.python}", "install Python 3.8 there, or name it with --python"
            )
        hint = f"see that this works in a terminal: ssh {shlex.quote(self.host)}"
        if re.search("timed out|no route|refused|unreachable", words, re.IGNORECASE):
            hint = f"it may be asleep or off: wake it, and {hint}"
        return SshError(f"cannot reach {self.host}: {said or f'ssh ended with {code}'}", hint)

    def _lost(self) -> SshError:
        self.is_lost = True
        said = _last_line("\n".join(self._words)) if self._ended() == 255 else ""
        why = f" ({said})" if said else ""
        return SshError(
            f"the connection to {self.host} was lost{why}; {self.folder} stays there",
            "run the same command again: what was copied is used, and the folder removed in the end",
        )

    def _strange(self, what: str) -> SshError:
        return SshError(f"{self.host} answers what is no answer: {what}", "see what its login scripts print")

    def _ended(self) -> int:
        try:
            code = self._ssh.wait(_ENDS_S)
        except subprocess.TimeoutExpired:
            return -1
        self._readers[1].join(1.0)
        return code

    def _next_answer(self) -> PlainValue:
        """The next answer of a job, which the first Ctrl-C stops: its last answers come then."""
        try:
            return self._receive()
        except KeyboardInterrupt:
            if not self._is_running:
                raise
            self._end_job(device_script.STOP)
            return self._receive()

    def _end_job(self, line: bytes) -> None:
        """The one line that is said of a job."""
        self._is_running = False
        self._write(line)

    def _send(self, request: Mapping[str, Any]) -> None:
        self._write(json.dumps(request).encode() + b"\n")

    def _send_whole(self, content: Path | bytes, start: int) -> None:
        """Send a file in pieces; Ctrl-C comes between two of them, and says there that no more will come."""
        sender = threading.Thread(target=self._send_pieces, args=(content, start), daemon=True)
        sender.start()
        try:
            sender.join()
        except KeyboardInterrupt:
            self._stops_copying = True
            sender.join()
            raise

    def _send_pieces(self, content: Path | bytes, start: int) -> None:
        with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
            file.seek(start)
            for piece in iter(lambda: file.read(_PIECE_BYTES), b""):
                if self._stops_copying:
                    self._write(b"0\n")
                    return
                self._write(b"%d\n%s" % (len(piece), piece))

    def _write(self, content: bytes) -> None:
        assert self._ssh.stdin is not None, "it is a pipe"
        # What went wrong there is in the answer that comes instead of the expected one.
        with contextlib.suppress(BrokenPipeError):
            self._ssh.stdin.write(content)
            self._ssh.stdin.flush()

    def _receive(self) -> PlainValue:
        """The next answer. Raises `SshError` for a failure there, a lost connection, or no answer."""
        line = self._next_line()
        if not line:
            raise self._lost()
        try:
            answer = PlainValue(parse_json(line, only_finite=False))
        except ValueError as error:
            raise self._strange(str(error)) from error
        if not isinstance(answer.value, dict):
            raise self._strange("a line without names")
        if "failed" in answer.value:
            failed, hint = (_shown(answer.value.get(name)) for name in ("failed", "hint"))
            raise SshError(f"{self.host}: {failed}", hint or "run the same command again")
        return answer

    def _next_line(self, timeout: float | None = None) -> bytes:
        """The next line from there; an empty one, again and again, where none will come any more."""
        line = self._lines.get(timeout=timeout)
        if not line:
            self._lines.put(line)
        return line

    def _end(self) -> str:
        """Have the folder removed; the folder where it could not be."""
        if self._is_running:
            self._end_job(device_script.STOP)
        self._send({"do": "end"})
        while True:
            line = self._next_line(timeout=_ENDS_S)
            if not line:
                return self.folder
            with contextlib.suppress(ValueError):
                answer = parse_json(line)
                if isinstance(answer, dict) and "left" in answer:
                    return self.folder if answer["left"] else ""

    def _close(self) -> None:
        assert self._ssh.stdin is not None, "it is a pipe"
        with contextlib.suppress(BrokenPipeError):
            self._ssh.stdin.close()
        try:
            self._ssh.wait(2.0)
        except subprocess.TimeoutExpired:
            self._ssh.kill()
            self._ssh.wait()

    def _read_lines(self, pipe: IO[bytes]) -> None:
        """Hand on lines that are not too long; what is too long ends the connection, as its end does."""
        for line in iter(lambda: pipe.readline(_LONGEST_LINE), b""):
            if not line.endswith(b"\n"):
                self._ssh.kill()
                break
            if line.strip():
                self._lines.put(line)
        self._lines.put(b"")

    def _read_words(self, pipe: IO[bytes]) -> None:
        for line in iter(lambda: pipe.readline(_LONGEST_WORDS), b""):
            self._words.append(line.decode("utf-8", "replace").rstrip())


def _digest_and_size(content: Path | bytes) -> tuple[str, int]:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest(), len(content)
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), content.stat().st_size


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _shown(lines[-1]) if lines else ""


def _shown(text: object) -> str:
    """Words from there as they may be shown."""
    return visible_text(str(text or ""))[:_LONGEST_WORDS]

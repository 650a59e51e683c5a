"""Runs on a device, sent over SSH: files in a temporary folder, jobs on them, and all gone at the end.

Each request is a line of JSON on stdin, each answer one on stdout; contents follow the request as they are.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from fcntl import LOCK_EX, LOCK_NB, flock
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, List, Optional, TextIO, Tuple

PREFIX = "qsens-ssh-"
LOCK, PARTIAL = ".lock", ".partial"
STOP = b"stop\n"
# An engine that is running hears of a stop when its run is over.
PATIENCE_S = 20.0
_CHUNK_BYTES = 2**20
_LAST_BYTES = 4000


class Gone(Exception):  # noqa: N818 (it is about who asked, not about the code)
    """The other side is not there any more: what was copied stays for the next time."""


class Unable(Exception):  # noqa: N818 (it is about the device)
    """A request that this device cannot do: says what is wrong and what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def main() -> int:
    """Serve one session."""
    # What the terminal or a closing connection sends would leave the folder behind.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        folder, lock = take_folder(Path(tempfile.gettempdir()))
    except OSError as error:
        say({"failed": f"no temporary folder: {error.strerror}", "hint": "free some space there"})
        return 1
    with lock:
        try:
            say({"folder": str(folder)})
            serve(folder)
        except (Gone, BrokenPipeError):
            # Python would try to write the rest of the output at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        shutil.rmtree(str(folder), ignore_errors=True)
        say({"left": str(folder) if folder.exists() else None})
    return 0


def take_folder(parent: Path) -> Tuple[Path, TextIO]:
    """A folder that nobody works in, one of a session that was lost where there is any, and its open lock.

    Others of lost sessions are removed. A lock is held by an open file: who is gone holds none.
    """
    found: Optional[Tuple[Path, TextIO]] = None
    for folder in sorted(parent.glob(PREFIX + "*")):
        if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid != os.getuid():
            continue
        lock = locked(folder)
        if lock is not None and found is None:
            found = folder, lock
        elif lock is not None:
            shutil.rmtree(str(folder), ignore_errors=True)
            lock.close()
    if found is not None:
        return found
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=str(parent)))
    new = locked(folder)
    assert new is not None, "nobody else knows the new folder"
    return folder, new


def locked(folder: Path) -> Optional[TextIO]:
    """The open lock of a folder; `None` where another session holds it."""
    lock = (folder / LOCK).open("w", encoding="utf-8")
    try:
        flock(lock, LOCK_EX | LOCK_NB)
    except OSError:
        lock.close()
        return None
    return lock


def serve(folder: Path) -> None:
    """Do what is asked, until it is the end or something fails."""
    try:
        while True:
            request = json.loads(heard(sys.stdin.buffer.readline()).decode("utf-8"))
            if request["do"] == "end":
                return
            do(request, folder)
    except Unable as error:
        say({"failed": error.message, "hint": error.hint})
    except BrokenPipeError:
        raise
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        say({"failed": f"{where}{error.strerror}", "hint": "check the space and the permissions there"})


def do(request: Dict[str, Any], folder: Path) -> None:
    """Do one request."""
    if request["do"] == "find":
        say({"found": [name for name in request["modules"] if find_spec(name) is not None]})
    elif request["do"] == "copy":
        copy(folder / request["place"], request["files"])
    else:
        run(folder, request["job"])


def copy(place: Path, files: List[List[Any]]) -> None:
    """Take the files, each a name, its sha256 and its size, that `place` does not hold; others go."""
    place.mkdir(parents=True, exist_ok=True)
    wanted = {place / name for name, _, _ in files}
    for path in [path for path in place.rglob("*") if path.is_file()]:
        if path not in wanted and path.with_suffix("") not in wanted:
            path.unlink()  # of a lost session that was about something else
    missing = []
    for name, digest, size in files:
        path = place / name
        if digest_of(path) != digest:
            path.parent.mkdir(parents=True, exist_ok=True)
            missing.append((path, digest, size, begun_bytes(path, size)))
    needed, free = sum(size - start for _, _, size, start in missing), shutil.disk_usage(str(place)).free
    if needed > free:
        raise Unable(
            f"no space left: {needed / 1e6:.1f} MB are needed and {free / 1e6:.1f} MB are free",
            f"free some space there, in {place.parent.parent}",
        )
    say({"missing": [[digest, start] for _, digest, _, start in missing]})
    for path, digest, size, start in missing:
        take(path, digest, size - start)
    say({"copied": len(missing)})


def begun_bytes(path: Path, size: int) -> int:
    """The bytes of a file that a lost session already copied; too many are not of this file."""
    partial = partial_of(path)
    begun = partial.stat().st_size if partial.exists() else 0
    if begun > size:
        partial.unlink()
        return 0
    return begun


def partial_of(path: Path) -> Path:
    """The name of a file while it comes."""
    return path.with_name(path.name + PARTIAL)


def take(path: Path, digest: str, rest_bytes: int) -> None:
    """Write what is left of a file, and give it its name if it is what it should be.

    It comes in pieces, each with its length in a line before it; a length of 0 says that no more will come.
    """
    partial = partial_of(path)
    with partial.open("ab") as file:
        while rest_bytes > 0:
            length = int(heard(sys.stdin.buffer.readline()))
            if not length:
                raise Unable("stopped while files were copied", "")
            piece = sys.stdin.buffer.read(length)
            # A piece that is cut where the connection is lost counts as far as it came.
            file.write(piece)
            if len(piece) < length:
                raise Gone
            rest_bytes -= length
    if digest_of(partial) != digest:
        partial.unlink()
        raise Unable(f"{path.name} was damaged on its way", "run the same command again")
    partial.replace(path)


def digest_of(path: Path) -> Optional[str]:
    """The sha256 of a file; `None` where there is none."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""):
                digest.update(chunk)
    except FileNotFoundError:
        return None
    return digest.hexdigest()


def run(folder: Path, job: Dict[str, Any]) -> None:
    """Run a job of the copied code on the copied files; it writes its answers to stdout itself.

    One line comes while it runs or after it: `stop` interrupts it.
    """
    paths = [str(folder / "code"), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = folder / "temporary"  # runtimes leave files where they may
    own.mkdir(exist_ok=True)
    with tempfile.TemporaryFile() as words:
        child = subprocess.Popen(
            [sys.executable, "-m", "qsens.device.job"],
            cwd=str(folder),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(own)},
            stdin=subprocess.PIPE,
            stderr=words,
        )
        line: List[bytes] = []
        listener = threading.Thread(target=listen, args=(child, line), daemon=True)
        listener.start()
        child.communicate(json.dumps(job).encode())
        words.seek(max(0, words.seek(0, os.SEEK_END) - _LAST_BYTES))
        say({"ended": child.returncode, "words": words.read().decode("utf-8", "replace")})
    listener.join()
    heard(line[0])


def listen(child: "subprocess.Popen[bytes]", line: List[bytes]) -> None:
    """Wait for the one line, and end a job that is not wanted any more."""
    line.append(sys.stdin.buffer.readline())
    if line[0] == STOP:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            child.kill()
    elif not line[0]:
        child.kill()


def heard(content: bytes) -> bytes:
    """The content that came. Raises `Gone` where nothing will come any more."""
    if not content:
        raise Gone
    return content


def say(answer: Dict[str, Any]) -> None:
    """Answer in one line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

"""Checks this bundle: its files, its engine, its layers, its pictures, its latency. See README.md."""

import sys

if __name__ == "__main__":
    # Python looks beside a script first, where anybody may have put a `hashlib.py`: Python's own come first.
    sys.path[:] = [entry for entry in (*sys.path[1:], *sys.path[:1]) if entry]

import os

if __name__ == "__main__":
    # From here on nothing is found in the folder of this script, whatever led there.
    HERE = os.path.dirname(os.path.realpath(__file__))  # noqa: PTH120 (pathlib is not in memory yet)
    sys.path[:] = [
        entry for entry in sys.path if not (os.path.realpath(entry) + os.sep).startswith(HERE + os.sep)
    ]

import argparse
import hashlib
import re
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set, cast

FOLDER = Path(__file__).resolve().parent
CHECKSUMS = "SHA256SUMS"
# Without these there would be nothing to check, or nothing to check it with.
NEEDED = ("bundle.json", "goldens.npz", "model.onnx", "qsens/__init__.py")
# Bundles of older versions have their checks under another name, and a script that knows it.
CHECKS = "qsens/device/check.py"
FOLDERS = ("", "qsens/", "qsens/device/")
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
_CODE = re.compile(r"qsens/(device/)?\w+\.py|verify\.py", re.ASCII)
_DATA = re.compile(r"\w[\w.-]*\.(json|onnx|data|csv|npz|md|txt|cache)", re.ASCII)
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_CHUNK_BYTES = 2**20
_LARGEST_BYTES = 2**26  # of what is no model and no array
_LARGE = (".onnx", ".data", ".npz")
_LISTED = 5
STOPPED, OUTPUT_CLOSED = 130, 141


class Refused(Exception):  # noqa: N818 (it is about files, not about the code)
    """The files of a bundle are not what they should be: says what is wrong and what to do."""

    def __init__(self, message: str, hint: str = "copy or export the bundle again") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Compared(NamedTuple):
    """A bundle whose files are what its checksums say.

    `digest` is the sha256 of `SHA256SUMS`, `files` how many it lists, `code` the sources of the package
    `qsens` by name, as they were when they were compared.
    """

    digest: str
    files: int
    code: Dict[str, bytes]


def compare(folder: Path, digest: Optional[str] = None) -> Compared:
    """Compare all files with `SHA256SUMS`, and that with the digest that `qsens export` printed.

    Raises:
        Refused: naming what is missing, changed, or not part of the bundle.
    """
    found = file_names(folder)
    content = read(folder, CHECKSUMS)
    own = hashlib.sha256(content).hexdigest()
    if digest is not None and digest.lower() != own:
        raise Refused(
            f"the bundle's digest is {own}, not {digest.lower()}",
            "it is another bundle, or its files and their checksums were changed: copy the exported one",
        )
    sums = read_checksums(content)
    refuse("missing", sorted({*sums, *NEEDED} - found))
    refuse("not part of the bundle", sorted(found - sums.keys()), "delete what does not belong there")
    code = {name: read(folder, name) for name in sorted(sums) if name.startswith("qsens/")}
    digests = {name: hashlib.sha256(source).hexdigest() for name, source in code.items()}
    digests.update({name: file_digest(folder, name) for name in sums if name not in code})
    refuse("damaged", [name for name in sorted(sums) if digests[name] != sums[name]])
    return Compared(own, len(sums), code)


def file_names(folder: Path) -> Set[str]:
    """Names of the files of a bundle but `SHA256SUMS`. Raises `Refused` for anything that is no file."""
    found, foreign = set(), []
    for below in FOLDERS:
        for entry in entries(folder, below):
            name = below + entry.name
            if entry.is_symlink():
                foreign.append(f"{name} (a link)")
            elif entry.is_file(follow_symlinks=False):
                found.add(name)
            elif not entry.is_dir(follow_symlinks=False):
                foreign.append(f"{name} (no file)")
            elif f"{name}/" not in FOLDERS:
                foreign.append(f"{name} (a folder)")
        refuse("not part of the bundle", foreign, "delete what does not belong there")
    return found - {CHECKSUMS}


def entries(folder: Path, below: str) -> "List[os.DirEntry[str]]":
    """The entries of a folder of the bundle; none where the folder is absent."""
    try:
        with os.scandir(str(folder / below)) as found:
            return sorted(found, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Refused(f"cannot read {below or folder}: {error.strerror}") from error


def read_checksums(content: bytes) -> Dict[str, str]:
    """The sums by name of file. Raises `Refused` for a line that `qsens export` does not write."""
    sums: Dict[str, str] = {}
    seen = set()
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise Refused(f"damaged: line {number} of {CHECKSUMS}")
        name = match.group(2)
        if not (_CODE.fullmatch(name) or _DATA.fullmatch(name)):
            raise Refused(f"line {number} of {CHECKSUMS} names {shown(name)}, which no bundle holds")
        if name.lower() in seen:
            raise Refused(f"line {number} of {CHECKSUMS} names {name}, as a line before it does")
        seen.add(name.lower())
        sums[name] = match.group(1)
    return sums


def read(folder: Path, name: str) -> bytes:
    """The content of one of the small files of a bundle."""
    return b"".join(chunks(folder, name))


def file_digest(folder: Path, name: str) -> str:
    """The sha256 of a file's content as hexadecimal digits."""
    digest = hashlib.sha256()
    for chunk in chunks(folder, name):
        digest.update(chunk)
    return digest.hexdigest()


def chunks(folder: Path, name: str) -> Iterator[bytes]:
    """The content of a file in pieces. Raises `Refused` for one that is too large for what it should hold."""
    left = None if name.endswith(_LARGE) else _LARGEST_BYTES
    try:
        with (folder / name).open("rb") as file:
            for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""):
                left = None if left is None else left - len(chunk)
                if left is not None and left < 0:
                    raise Refused(f"{name} is larger than {_LARGEST_BYTES / 2**20:.0f} MiB")
                yield chunk
    except OSError as error:
        raise Refused(f"cannot read {name}: {error.strerror}") from error


def refuse(what: str, names: List[str], hint: str = "copy or export the bundle again") -> None:
    """Raise `Refused` if there are names."""
    if names:
        more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        raise Refused(f"{what}: {', '.join(map(shown, names[:_LISTED]))}{more}", hint)


def shown(name: str) -> str:
    """A name as it may go to a terminal."""
    return name if name.isprintable() else ascii(name)


class ComparedCode:
    """Gives Python the package `qsens` from the bytes that were compared, and from nowhere else."""

    def __init__(self, code: Dict[str, bytes]) -> None:
        self._code = code

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> Optional[ModuleSpec]:
        """The module of that name; of others than `qsens` it says nothing."""
        if name.partition(".")[0] != "qsens":
            return None
        place, loader = name.replace(".", "/"), cast(Any, self)
        for file in (f"{place}/__init__.py", f"{place}.py"):
            if file in self._code:
                return ModuleSpec(name, loader, origin=file, is_package=file.endswith("/__init__.py"))
        raise ModuleNotFoundError(f"the bundle holds no module {name}", name=name)

    def create_module(self, _spec: ModuleSpec) -> None:
        """Leave that to Python."""

    def exec_module(self, module: Any) -> None:
        """Run a module's source."""
        origin = module.__spec__.origin
        exec(compile(self._code[origin], origin, "exec", dont_inherit=True), module.__dict__)


def is_digest(text: str) -> bool:
    """Whether a text may be what `qsens export` printed."""
    return _DIGEST.fullmatch(text) is not None


def digest_text(text: str) -> str:
    """Check that the digest which was typed is one."""
    if not is_digest(text):
        raise argparse.ArgumentTypeError(f"{text!r} are not the 64 digits that qsens export printed")
    return text


def count(text: str) -> int:
    """Read a number from 1 on."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


class Once(argparse.Action):
    """Keeps the value of an option that may be given once: argparse would take the last one."""

    def __call__(
        self,
        command: argparse.ArgumentParser,
        found: argparse.Namespace,
        value: Any,
        option: Optional[str] = None,
    ) -> None:
        if getattr(found, f"has_{self.dest}", False):
            command.error(f"{option} is given twice, and only one value can count")
        setattr(found, self.dest, value)
        setattr(found, f"has_{self.dest}", True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        description="Rebuild this bundle's engine, audit its layers, compare its pictures with the goldens.",
        epilog="Exit codes: 0 fine, 1 damaged or not runnable, 4 not what was scored.",
    )
    found.add_argument(
        "--digest", action=Once, type=digest_text, metavar="HEX", help="what qsens export printed"
    )
    found.add_argument("--json", action="store_true", help="print JSON")
    found.add_argument("--repeats", action=Once, type=count, default=50, help="timed runs (default 50)")
    what = found.add_mutually_exclusive_group()
    what.add_argument("--no-latency", action="store_true", help="do not measure")
    what.add_argument(
        "--latency-json", action=Once, metavar="FILE", help="write the latency for `qsens select`"
    )
    return found


def failed(message: str, hint: str) -> int:
    """Say what is wrong; returns the exit code."""
    sys.stderr.write(f"Error: {message}\nHint: {hint}\n")
    return 1


def failed_system(error: OSError) -> int:
    """Say what the system refused; nothing where whoever reads the output has enough."""
    # Python would try to write the rest of the output at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return OUTPUT_CLOSED
    return failed(f"{error.filename or 'the output'}: {error.strerror}", "check its space and permissions")


def checked(options: argparse.Namespace) -> int:
    """Compare the files and run the bundle's own copy of the checks; returns the exit code."""
    if not (FOLDER / "qsens").is_dir():
        raise Refused("the folder qsens is missing, which holds the checks", "copy the whole bundle again")
    compared = compare(FOLDER, options.digest)
    refuse("missing", [] if CHECKS in compared.code else [CHECKS])
    sys.meta_path.insert(0, cast(Any, ComparedCode(compared.code)))
    # The bundle's own copy, which only now can be found.
    from qsens.device.check import ComparedFiles
    from qsens.device.check import main as check

    files = ComparedFiles(compared.files, compared.digest, lambda: compare(FOLDER, compared.digest))
    return check(options, FOLDER, files)


def prepare_outputs() -> None:
    """Let no text be refused by an output: neither by one of few characters nor by one that is closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 (open as long as the process)
        getattr(sys, name).reconfigure(errors="backslashreplace")


def main() -> int:
    """Check this bundle; 0 is fine, 1 an error, 4 another engine than scored."""
    prepare_outputs()
    try:
        code = checked(parser().parse_args())
        sys.stdout.flush()
        return code
    except Refused as error:
        return failed(error.message, error.hint)
    except ModuleNotFoundError as error:
        return failed(f"{error.name} is not installed here", f"pip install {error.name}")
    except MemoryError:
        return failed("there is not enough memory for this bundle", "check it on a machine with more")
    except OSError as error:
        return failed_system(error)
    except KeyboardInterrupt:
        return STOPPED


if __name__ == "__main__":
    sys.exit(main())

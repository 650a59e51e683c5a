"""Checks this bundle: its files, its engine, its layers, its pictures, its latency. See README.md."""

import hashlib
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def damaged_code() -> "list[str]":
    """Files of code below this folder that are not as they were exported; such code is not run."""
    sums = {}
    for line in (FOLDER / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        sums[name] = digest
    code = {name for name in sums if name.endswith(".py")}
    code |= {path.relative_to(FOLDER).as_posix() for path in (FOLDER / "qsens").rglob("*") if path.is_file()}
    return [name for name in sorted(code) if sha256(FOLDER / name) != sums.get(name)]


def sha256(path: Path) -> str:
    """The digest of a file, empty where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def refuse(what: str) -> int:
    """Say what is wrong with the bundle; returns the exit code."""
    sys.stderr.write(f"Error: {what}\nHint: copy the whole bundle again\n")
    return 1


def main() -> int:
    """Run the bundle's own copy of the checks; 0 is fine, 1 an error, 4 another engine than scored."""
    if not (FOLDER / "qsens").is_dir():
        return refuse("the folder qsens is missing, which holds the checks")
    try:
        damaged = damaged_code()
    except (OSError, ValueError) as error:
        return refuse(f"cannot read SHA256SUMS: {getattr(error, 'strerror', None) or error}")
    if damaged:
        return refuse(f"damaged: {', '.join(damaged)}")
    # Compiled files would be files that are not part of the bundle.
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(FOLDER))
    # The bundle's own copy, which only now is on the path.
    from qsens.device.main import main as check

    return check(sys.argv[1:], FOLDER)


if __name__ == "__main__":
    sys.exit(main())

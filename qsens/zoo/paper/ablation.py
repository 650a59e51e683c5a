"""Rows of Table 2: the trainings of the paper, specs that repeat them, and files with their weights."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from qsens.core.errors import SpecError, name_hint
from qsens.device.errors import reason_of

_PATHS = "--expert expert/expert.safetensors --data CLIPS --validation HELD_OUT"
SYNCS = ("none", "start", "middle")
COMMANDS = (
    "qsens zoo train expert --data CLIPS --validation HELD_OUT --out expert",
    f"qsens zoo train teacher {_PATHS} --out teacher",
    f"qsens distill ROW --teacher teacher/generator.safetensors {_PATHS} --out ROW",
)
"""Commands for the expert, the teacher, and any other row (`--teacher` where it is distilled offline)."""


@dataclass(frozen=True)
class Training:
    """One row; `name` is that of the shipped spec that repeats it, and its key in a file of checkpoints.

    `variant` is its architecture, `distilled` says `no`, `offline` or `online`, `sync` when its sync loss
    begins. `subject` is where its published quality is looked up, `None` where none is known to be its own.
    """

    name: str
    variant: str
    distilled: str
    sync: str
    subject: str | None = None


def _students() -> Iterator[Training]:
    for stem, variant in (("student-residual", "student-residual"), ("student-bare", "student")):
        for kind, distilled in (("plain", "no"), ("kd", "offline")):
            for sync in SYNCS:
                name = f"{stem}-{kind}-{sync}"
                yield Training(name, variant, distilled, sync, _SUBJECTS.get(name))
        yield Training(f"{stem}-kd-start-online", variant, "online", "start")


_SUBJECTS = {"student-bare-kd-start": "student"}
TRAININGS = (Training("teacher", "teacher", "no", "threshold", "teacher"), *_students())


def read_checkpoints(path: Path) -> dict[str, Path]:
    """Weights by row of Table 2: the table `[checkpoints]` of a TOML file, paths relative to the file.

    Raises:
        SpecError: if the file cannot be read, names a row that there is not, or a file that is missing.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"cannot read {path}: {reason_of(error)}", "give the path of a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} is not TOML: {error}", "write lines such as teacher = 'FILE'") from error
    found = document.get("checkpoints")
    if not isinstance(found, Mapping) or set(document) != {"checkpoints"}:
        raise SpecError(f"{path} holds {sorted(document)}", "it needs one table, [checkpoints]")
    return {name: _checked(name, value, path) for name, value in found.items()}


def _checked(name: str, value: object, path: Path) -> Path:
    known = [training.name for training in TRAININGS]
    if name not in known:
        hint = name_hint(name, known, f"there are {', '.join(known)}")
        raise SpecError(f"{path}: Table 2 has no row {name!r}", hint)
    if not isinstance(value, str):
        raise SpecError(f"{path}: {name} is {value!r}", "write the path of a checkpoint in quotes")
    file = path.parent / Path(value).expanduser()
    if not file.is_file():
        raise SpecError(f"{path}: {name} names {value!r}, which is not there", "correct the path")
    return file

"""Rows of Table 2: the trainings of the paper, specs that repeat them, and files with their weights."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qsens.errors import SpecError

_PATHS = "--expert expert/expert.safetensors --data CLIPS --validation HELD_OUT"


@dataclass(frozen=True)
class Training:
    """One row. `variant` is its architecture; `subject` is where published quality is looked up, if anywhere.

    `name` is that of the shipped spec, and the row's key in a file of checkpoints.
    """

    name: str
    variant: str
    is_distilled: bool
    sync: str
    subject: str | None = None

    @property
    def command(self) -> str:
        """The command that trains it."""
        if self.variant == "teacher":
            return f"qsens zoo train {self.name} {_PATHS} --out {self.name}"
        teacher = "--teacher teacher/generator.safetensors " if self.is_distilled else ""
        return f"qsens distill {self.name} {teacher}{_PATHS} --out {self.name}"


TRAININGS = (
    Training("teacher", "teacher", is_distilled=False, sync="threshold", subject="teacher"),
    Training("student-residual-start", "student-residual", is_distilled=False, sync="start"),
    Training("student-residual-middle", "student-residual", is_distilled=False, sync="middle"),
    Training("student-bare-start", "student", is_distilled=False, sync="start"),
    Training("student-bare-middle", "student", is_distilled=False, sync="middle"),
    Training("student-bare-none", "student", is_distilled=False, sync="none"),
    Training("student-bare-kd-start", "student", is_distilled=True, sync="start", subject="student"),
    Training("student-bare-kd-middle", "student", is_distilled=True, sync="middle"),
    Training("student-bare-kd-none", "student", is_distilled=True, sync="none"),
)


def read_checkpoints(path: Path) -> dict[str, Path]:
    """Weights by row of Table 2: the table `[checkpoints]` of a TOML file, paths relative to the file.

    Raises:
        SpecError: if the file cannot be read, names a row that there is not, or a file that is missing.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror}", "give the path of a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} is not TOML: {error}", "write lines such as teacher = 'FILE'") from error
    found = document.get("checkpoints")
    if not isinstance(found, Mapping) or set(document) != {"checkpoints"}:
        raise SpecError(f"{path} holds {sorted(document)}", "it needs one table, [checkpoints]")
    return {name: _checked(name, value, path) for name, value in found.items()}


def _checked(name: str, value: object, path: Path) -> Path:
    known = [training.name for training in TRAININGS]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
        raise SpecError(f"{path}: Table 2 has no row {name!r}", hint)
    if not isinstance(value, str):
        raise SpecError(f"{path}: {name} is {value!r}", "write the path of a checkpoint in quotes")
    file = path.parent / Path(value).expanduser()
    if not file.is_file():
        raise SpecError(f"{path}: {name} names {value!r}, which is not there", "correct the path")
    return file

"""What a case of bad input is, and the registry that the test reads."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Bench:
    """An empty folder, and good inputs to spoil or to go with something spoiled."""

    folder: Path
    generator: Path
    photos: Path


@dataclass(frozen=True)
class Bad:
    """A command line, and what it must say: `value` in the message, `hint` in the hint."""

    arguments: tuple[object, ...]
    value: str
    hint: str
    exit_code: int = 1


Case = Callable[[Bench], Bad]
CASES: list[Case] = []


def case(function: Case) -> Case:
    """Have the test run this case, under the function's name."""
    CASES.append(function)
    return function


def swept(bench: Bench, *arguments: object, checkpoint: object = None, calibration: object = None) -> tuple:
    """A sweep that is good but for what is given."""
    out = () if "--out" in arguments else ("--out", bench.folder / "run")
    return (
        *("sweep", checkpoint or bench.generator, "--calibration", calibration or bench.photos),
        *(*out, "--metric", "psnr", *arguments),
    )

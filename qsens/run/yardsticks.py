"""The yardsticks of a run: scores of FP32's own pictures after familiar alterations, in a file of their own.

They belong to FP32's trial and are given to it wherever trials are read. The journal does not hold them: it
only grows, and a later budget may ask for another yardstick of the same pictures.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from qsens.core.alterations import Alteration, parse_alterations
from qsens.core.files import write_atomically
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.schema import read_record
from qsens.core.spec import SweepSpec
from qsens.core.trial import Trial, Yardstick, check_score
from qsens.device.plain_values import parse_json
from qsens.device.special_files import read_file
from qsens.selection.budget import Budget, stated_or_default


@dataclass(frozen=True)
class KeptYardsticks:
    """Yardsticks of the FP32 pictures with the digest `pictures`; each score names what it is against."""

    pictures: str
    yardsticks: tuple[Yardstick, ...]


def read_yardsticks(path: Path, pictures: str) -> tuple[Yardstick, ...]:
    """Yardsticks of the pictures with that digest; none where the file is of others, damaged or not there."""
    try:
        kept = read_record(KeptYardsticks, parse_json(read_file(path), only_finite=False))
        for score in (score for yardstick in kept.yardsticks for score in yardstick.scores):
            check_score(score)
    except (OSError, ValueError):
        return ()
    return kept.yardsticks if kept.pictures == pictures else ()


def keep_yardsticks(path: Path, pictures: str, yardsticks: Sequence[Yardstick]) -> None:
    """Write them, in place of earlier ones. Raises `RunFolderError` if that is impossible."""
    write_atomically(path, json.dumps(asdict(KeptYardsticks(pictures, tuple(yardsticks)))).encode())


def pictures_digest(fp32: Trial) -> str:
    """The digest of FP32's pictures; empty in journals of versions without digests."""
    return fp32.digest_of("images") or ""


def with_yardsticks(trials: Sequence[Trial], path: Path) -> tuple[Trial, ...]:
    """The same trials, where FP32's has the yardsticks that are kept in `path`."""
    fp32 = PrecisionMap(Precision.FP32)
    return tuple(
        replace(trial, yardsticks=read_yardsticks(path, pictures_digest(trial)))
        if trial.requested == fp32
        else trial
        for trial in trials
    )


def wanted_alterations(spec: SweepSpec) -> tuple[Alteration, ...]:
    """The alterations of a spec: those that it lists, then those that its budgets and its delivery name."""
    options = spec.strategy_options.to_dict()
    texts = (stated_or_default(spec), spec.guard, options.get("budget"), options.get("guard"))
    budgets = (Budget.parse(str(text)) for text in texts if text is not None)
    named = [part.alteration for budget in budgets for part in budget.parts]
    delivery = () if spec.delivery is None else (spec.delivery,)
    return parse_alterations([*spec.yardsticks, *delivery, *map(str, filter(None, named))])

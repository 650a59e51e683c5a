"""The floor of a metric: what it shows where nothing differs but the draw of images; kept in a run folder.

A finite sample lies away from its own distribution, so even real images score above zero against other real
images, more so the fewer there are. A distance to real images means little below the distance of real images
to each other at the same number of images; a distance to the FP32 outputs is put in proportion by what FP32
itself moves when other inputs are drawn. Kernel distances are unbiased: their floor is zero at any number.
`qsens.metrics.floors` computes floors.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from qsens.core.files import write_atomically
from qsens.core.schema import read_record
from qsens.device.json_text import parse_json
from qsens.device.special_files import read_file
from qsens.run.folder import RunPaths

FLOORS = "floors.json"
REAL = "real against real"
REDRAWN = "FP32 against other inputs"


@dataclass(frozen=True)
class Floor:
    """The distance `value` that `label` names, for `images` a side.

    `measured_images`: how many a side it was measured with, disjoint random halves of what was kept; where
    that is fewer than `images`, `value` is extrapolated.
    """

    label: str
    value: float
    images: int
    measured_images: int

    @property
    def is_extrapolated(self) -> bool:
        """Whether there were too few images to measure it at the size of the scores."""
        return self.measured_images < self.images


@dataclass(frozen=True)
class KeptFloors:
    """Floors by metric, and what each of those metrics was measured `against` when they were computed."""

    against: Mapping[str, str]
    floors: Mapping[str, Floor]


def read_floors(run: Path) -> KeptFloors | None:
    """What the run folder keeps; `None` where nothing was computed yet or the file is damaged."""
    try:
        return read_record(KeptFloors, parse_json(read_file(_path(run))))
    except (OSError, ValueError):
        return None


def keep_floors(run: Path, kept: KeptFloors) -> None:
    """Write the floors into the evidence folder. Raises `RunFolderError` if that is impossible."""
    write_atomically(_path(run), json.dumps(asdict(kept)).encode())


def _path(run: Path) -> Path:
    return RunPaths(run).evidence / FLOORS

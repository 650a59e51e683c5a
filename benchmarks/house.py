"""The size and the order of the house: rooms, floors, arrows and circles between them, and lines of files.

python benchmarks/house.py

Counts the checkout that it lies in. Imports for the type checker count too; `__init__.py` is no file here.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping
from pathlib import Path

import grimp

CHECKOUT = Path(__file__).parents[1]
FEW_LINES = 60
Arrows = Mapping[str, set[str]]


def arrows_of() -> Arrows:
    """The rooms that each room imports: folders and files directly in `qsens/`."""
    sys.path.insert(0, str(CHECKOUT))
    graph = grimp.build_graph("qsens", exclude_type_checking_imports=False, cache_dir=None)
    rooms: dict[str, set[str]] = {room_of(module): set() for module in graph.modules if module != "qsens"}
    for module in graph.modules - {"qsens"}:
        imported = graph.find_modules_directly_imported_by(module) - {"qsens"}
        rooms[room_of(module)] |= {room_of(name) for name in imported} - {room_of(module)}
    return rooms


def room_of(module: str) -> str:
    """The part of a module's name after `qsens`."""
    return module.split(".")[1]


def reached(arrows: Arrows, room: str) -> set[str]:
    """All rooms that a room imports, directly or through others."""
    found: set[str] = set()
    waiting = [*arrows[room]]
    while waiting:
        other = waiting.pop()
        if other not in found:
            found.add(other)
            waiting += arrows[other]
    return found


def floor_of(arrows: Arrows, room: str) -> int:
    """One more than the highest floor that the room imports from."""
    return 1 + max((floor_of(arrows, other) for other in arrows[room]), default=0)


def main() -> None:
    """Print the counts."""
    arrows = arrows_of()
    circles = sorted(room for room in arrows if room in reached(arrows, room))
    floors = "-" if circles else max(floor_of(arrows, room) for room in arrows)
    house = CHECKOUT / "qsens"
    files = [path for path in house.rglob("*.py") if path.name != "__init__.py"]
    core = [path for path in files if "zoo" not in path.relative_to(house).parts]
    lines = [len(path.read_text(encoding="utf-8").splitlines()) for path in core]
    print(f"rooms {len(arrows)}, floors {floors}, arrows {sum(map(len, arrows.values()))}")
    print(f"rooms in circles: {', '.join(circles) or 'none'}")
    print(
        f"modules outside the zoo {len(lines)}, median {statistics.median(lines):g} lines, "
        f"largest {max(lines)}, under {FEW_LINES} lines {sum(count < FEW_LINES for count in lines)}"
    )


if __name__ == "__main__":
    main()

"""Layer and block names short enough for an axis and still different from each other."""

from collections.abc import Sequence

LONGEST = 34


def short_names(names: Sequence[str], longest: int = LONGEST) -> list[str]:
    """Names without the dotted parts that all of them share at their ends, then with their middle cut.

    Names that would become equal keep their middle.

    >>> short_names(["net.enc.0.conv", "net.dec.1.conv"])
    ['enc.0', 'dec.1']
    """
    parts = [name.split(".") for name in names]
    if len(set(names)) > 1:
        front = _shared(parts)
        back = _shared([list(reversed(part[front:])) for part in parts])
        parts = [part[front : len(part) - back] for part in parts]
    joined = [".".join(part) for part in parts]
    if len(set(joined)) < len(set(names)):
        joined = list(names)
    cut = [cut_middle(name, longest) for name in joined]
    if len(set(cut)) < len(set(names)):
        cut = [cut_middle(name, longest) for name in _without_shared_ends(joined)]
    return [
        short if cut.count(short) == names.count(name) else whole
        for short, whole, name in zip(cut, joined, names, strict=True)
    ]


def cut_middle(name: str, longest: int) -> str:
    """The name with its middle replaced by `…` where it has more than `longest` characters."""
    if len(name) <= longest:
        return name
    tail = max(longest // 2, 1)
    return name[: longest - tail - 1] + "…" + name[-tail:]


def _without_shared_ends(names: Sequence[str]) -> list[str]:
    front = _shared(names)
    back = _shared([name[front:][::-1] for name in names])
    return ["…" * (front > 0) + name[front : len(name) - back] + "…" * (back > 0) for name in names]


def _shared(parts: Sequence[Sequence[str]]) -> int:
    """How many leading parts all have in common, always leaving each at least one."""
    count = 0
    while all(len(part) > count + 1 for part in parts) and len({part[count] for part in parts}) == 1:
        count += 1
    return count

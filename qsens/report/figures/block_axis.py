"""Block names on an axis: groups such as `FE 0 1 2 …`, shortened and turned until they fit."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.text import Text

from qsens.core.layer import Layer
from qsens.report.figures.style import FAINT, GRID, INK, SMALL

LONGEST = 34
_NUMBERED = re.compile(r"^(.+?)[._]?(\d+)$")
_POINTS_PER_INCH = 72.0
_CHARACTER_WIDTH = 0.62
_LONGEST = 22


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


def layer_titles(layers: Sequence[Layer], longest: int = LONGEST) -> dict[str, str]:
    """A short title for each layer, by name: its name without what all names share, where that is short.

    Where one of them stays longer than `longest` characters, its block, and its place there of several.
    """
    names = short_names([layer.name for layer in layers], sys.maxsize)
    if all(len(name) <= longest for name in names):
        return {layer.name: name for layer, name in zip(layers, names, strict=True)}
    members: dict[str, list[Layer]] = {}
    for layer in layers:
        members.setdefault(layer.block, []).append(layer)
    blocks = dict(zip(members, short_names(list(members), longest - len(" 10/10")), strict=True))
    return {
        layer.name: blocks[block] + (f" {place}/{len(inside)}" if len(inside) > 1 else "")
        for block, inside in members.items()
        for place, layer in enumerate(inside, 1)
    }


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
    """The number of leading parts that all have in common, always leaving each at least one."""
    count = 0
    while all(len(part) > count + 1 for part in parts) and len({part[count] for part in parts}) == 1:
        count += 1
    return count


@dataclass(frozen=True)
class Span:
    """A stretch of neighbouring layers under one name; `start` and `stop` are boundary indices."""

    name: str
    start: int
    stop: int

    @property
    def middle(self) -> float:
        """The place of its label."""
        return (self.start + self.stop) / 2


@dataclass(frozen=True)
class BlockSpans:
    """Groups (`FE`) and, where a group has numbered members, those (`0`, `1`, …), left to right."""

    groups: tuple[Span, ...]
    members: tuple[Span, ...]


def block_spans(layers: Sequence[Layer]) -> BlockSpans:
    """Neighbouring layers of one block are a span; numbered neighbours with one stem are a group."""
    spans = _runs([layer.block for layer in layers])
    matches = [_NUMBERED.match(span.name) for span in spans]
    stems = [match[1] if match else span.name for match, span in zip(matches, spans, strict=True)]
    groups, members, place = [], [], 0
    for run in _runs(stems):
        taken = range(place + run.start, place + run.stop)
        inside = [(spans[i], matches[i]) for i in taken]
        if len(inside) == 1:
            groups.append(inside[0][0])
        else:
            groups.append(Span(run.name, inside[0][0].start, inside[-1][0].stop))
            members += [Span(m[2] if m else "", span.start, span.stop) for span, m in inside]
    return BlockSpans(tuple(groups), tuple(members))


def label_blocks(axes: Axes, layers: Sequence[Layer], width: float, *, separators: Sequence[Axes]) -> None:
    """Write block names above `axes`, whose x runs over 0 to N across `width` inches, and draw separators."""
    spans = block_spans(layers)
    for panel in separators:
        for span in spans.members:
            panel.axvline(span.start, color=GRID, linewidth=0.5, linestyle=(0, (2, 3)), zorder=0)
        for span in spans.groups[1::2]:
            panel.axvspan(span.start, span.stop, color="#f3f3f1", zorder=-1, linewidth=0)
    per_layer = width / max(len(layers), 1)
    if spans.members:
        _write_axis(axes, spans.members, per_layer, offset=0.0, colour=FAINT)
    _write_axis(axes, spans.groups, per_layer, offset=16.0 if spans.members else 0.0, colour=INK)


def label_height(layers: Sequence[Layer], width: float) -> float:
    """Inches that the block names take above an axis of `width` inches."""
    spans = block_spans(layers)
    per_layer = width / max(len(layers), 1)
    crowded = crowded_spans(spans.groups, per_layer)
    shown = _shown_names(spans.groups, crowded)
    longest = max((_text_width(shown[place]) for place in crowded), default=0.2)
    slope = 1.0 if _is_tight(spans.groups, per_layer) else 0.6
    return (0.22 if spans.members else 0.0) + (longest * slope if crowded else longest)


def _write_axis(axes: Axes, spans: Sequence[Span], per_layer: float, *, offset: float, colour: str) -> None:
    upper = axes.secondary_xaxis("top")
    upper.spines["top"].set_position(("outward", offset))
    upper.spines["top"].set_visible(False)
    crowded = crowded_spans(spans, per_layer)
    names = _shown_names(spans, crowded)
    upper.set_xticks([span.middle for span in spans], names)
    upper.tick_params(length=0, pad=2, labelsize=SMALL, labelcolor=colour)
    _turn([upper.get_xticklabels()[place] for place in crowded], spans, per_layer)


def crowded_spans(spans: Sequence[Span], per_layer: float) -> tuple[int, ...]:
    """Places of spans whose level labels would run into a neighbour's; `per_layer` is inches a layer."""
    crowded = set()
    for place, (left, right) in enumerate(pairwise(spans)):
        needed = (_text_width(left.name) + _text_width(right.name)) / 2
        if (right.middle - left.middle) * per_layer < needed:
            crowded |= {place, place + 1}
    return tuple(sorted(crowded))


def _turn(labels: Sequence[Text], spans: Sequence[Span], per_layer: float) -> None:
    is_tight = _is_tight(spans, per_layer)
    for label in labels:
        label.set_rotation(90 if is_tight else 35)
        label.set_rotation_mode("anchor")
        label.set_horizontalalignment("left")
        label.set_verticalalignment("center" if is_tight else "bottom")


def _shown_names(spans: Sequence[Span], crowded: Sequence[int]) -> list[str]:
    short = short_names([span.name for span in spans], _LONGEST) if crowded else []
    return [
        short[place] if place in crowded and len(span.name) > _LONGEST else span.name
        for place, span in enumerate(spans)
    ]


def _is_tight(spans: Sequence[Span], per_layer: float) -> bool:
    """Whether slanted labels would still touch, so that they have to stand upright."""
    pairs = pairwise(spans)
    return min((right.middle - left.middle for left, right in pairs), default=1.0) * per_layer < 0.25


def _text_width(text: str) -> float:
    return (len(text) + 1) * SMALL * _CHARACTER_WIDTH / _POINTS_PER_INCH


def _runs(names: Sequence[str]) -> list[Span]:
    runs: list[Span] = []
    for place, name in enumerate(names):
        if runs and runs[-1].name == name:
            runs[-1] = Span(name, runs[-1].start, place + 1)
        else:
            runs.append(Span(name, place, place + 1))
    return runs

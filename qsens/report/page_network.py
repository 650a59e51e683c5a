"""The network as a picture: its blocks and branches, work as size, precision as colour, cost as outline."""

from collections.abc import Mapping
from itertools import accumulate

from qsens.core.layer import Layer
from qsens.core.maps import IsolationKind, built_map
from qsens.core.metric_names import format_value, short_name
from qsens.core.precision import Precision
from qsens.report.figures.block_axis import short_names
from qsens.report.figures.sensitivity import Effect
from qsens.report.network_layout import NetworkLayout, PlacedBlock, network_layout
from qsens.report.page_content import PageContent
from qsens.report.page_tables import chip
from qsens.report.page_text import escape, word_of
from qsens.selection.reasons import Reason

_WIDTH, _LEAST_COLUMN, _MOST_COLUMN = 1180, 26, 88
_GAP, _LETTER, _TURNED = 8, 6.6, 34
_LEAST_SHARE_DRAWN, _THICKEST = 0.1, 5.0
Point = tuple[float, float]


def network_picture(content: PageContent) -> str:
    """The figure as HTML; its boxes carry the facts that the script shows. Empty without layers.

    What it shows is in the table of layers too.
    """
    study = content.study
    if not study.layers:
        return ""
    layout = network_layout(study.layers, content.connections)
    drawing = _Drawing(layout)
    facts, costs = _facts(content), _costs(content)
    chosen = None if content.chosen is None else built_map(content.chosen)
    boxes = []
    for block in layout.blocks:
        for entry, top in zip(block.layers, drawing.tops(block), strict=True):
            name = entry.layer.name
            colour = "undecided" if chosen is None else str(chosen[name])
            boxes.append(drawing.box(block, top, entry.height, (colour, costs[name], facts[name])))
    labels = "".join(map(drawing.label, layout.blocks))
    edges = "".join(drawing.edge(layout.blocks[start], layout.blocks[end]) for start, end in layout.edges)
    title = f"The network: {len(layout.blocks)} blocks of {len(study.layers)} layers"
    return (
        f'<figure class="network"><div class="wide" tabindex="0" role="group" aria-label="{title}, '
        f'arrow keys go from layer to layer"><svg viewBox="0 0 {drawing.width:.0f} {drawing.height:.0f}" '
        f'style="min-width:{0.62 * drawing.width:.0f}px;max-width:{1.15 * drawing.width:.0f}px" '
        f'aria-hidden="true">{edges}{"".join(boxes)}{labels}'
        f"</svg></div>{_legend(content)}"
        '<p class="network-facts faint" aria-live="polite">Point at a box, or use the arrow keys, for a '
        "layer's facts.</p></figure>"
    )


class _Drawing:
    """Coordinates of a layout, in pixels of the drawing."""

    def __init__(self, layout: NetworkLayout) -> None:
        wished = _WIDTH / max(layout.columns, 1)
        self.step = min(max(wished, _LEAST_COLUMN), _MOST_COLUMN)
        self.box_width = 0.52 * self.step
        names = short_names([block.name for block in layout.blocks])
        self.names = dict(zip((block.name for block in layout.blocks), names, strict=True))
        longest = max(map(len, names))
        self.is_turned = longest * _LETTER > self.step
        self.label_height = min(longest * _LETTER * 0.6 + 12, 90) if self.is_turned else 20.0
        spans = [
            layout.blocks[end].column - layout.blocks[start].column
            for start, end in layout.edges
            if layout.blocks[start].lane == layout.blocks[end].lane == 0
        ]
        above = self.rise(max(spans, default=1))
        room = [height + self.label_height + _GAP for height in layout.lanes]
        self.lanes = layout.lanes
        self.starts = [above + start for start in accumulate(room, initial=0.0)]
        self.width = max(layout.columns * self.step, 240.0) + (40.0 if self.is_turned else 0.0)
        self.height = self.starts[-1] - _GAP + 4

    def rise(self, span: int) -> float:
        """The height of the arc of a connection that skips columns."""
        return 8.0 if span < 2 else 12.0 + 3.6 * min(span, 14)

    def left(self, block: PlacedBlock) -> float:
        return block.column * self.step + (self.step - self.box_width) / 2

    def middle(self, block: PlacedBlock) -> float:
        return self.starts[block.lane] + self.lanes[block.lane] / 2

    def tops(self, block: PlacedBlock) -> list[float]:
        """The upper end of each of a block's boxes; the block stands in the middle of its lane."""
        start = self.middle(block) - block.height / 2
        return list(accumulate((entry.height + 1 for entry in block.layers[:-1]), initial=start))

    def box(self, block: PlacedBlock, top: float, height: float, look: tuple[str, float, str]) -> str:
        precision, cost, facts = look
        outline = f' style="stroke-width:{cost:.1f}"' if cost else ""
        return (
            f'<rect class="layer {precision}{" costs" if cost else ""}" x="{self.left(block):.1f}" '
            f'y="{top:.1f}" width="{self.box_width:.1f}" height="{height:.1f}" rx="2"{outline} '
            f'data-facts="{escape(facts)}"/>'
        )

    def label(self, block: PlacedBlock) -> str:
        x, name = self.left(block) + self.box_width / 2, escape(self.names[block.name])
        y = self.starts[block.lane] + self.lanes[block.lane] + 15
        if not self.is_turned:
            return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{name}</text>'
        turn = f"rotate({_TURNED} {x - 4:.1f} {y - 4:.1f})"
        return f'<text x="{x - 4:.1f}" y="{y - 4:.1f}" transform="{turn}">{name}</text>'

    def edge(self, start: PlacedBlock, end: PlacedBlock) -> str:
        out: Point = (self.left(start) + self.box_width, self.middle(start))
        into: Point = (self.left(end), self.middle(end))
        span = end.column - start.column
        if start.lane == end.lane and span > 1:
            return self._arc(start, end, self.rise(span))
        bend = (into[0] - out[0]) / 2
        path = (
            f"M{out[0]:.1f} {out[1]:.1f}C{out[0] + bend:.1f} {out[1]:.1f} {into[0] - bend:.1f} {into[1]:.1f} "
            f"{into[0]:.1f} {into[1]:.1f}"
        )
        return f'<path d="{path}"/>'

    def _arc(self, start: PlacedBlock, end: PlacedBlock, rise: float) -> str:
        """A connection that passes above the blocks between its ends."""
        first, last = (self.left(block) + self.box_width / 2 for block in (start, end))
        heights = [self.middle(block) - block.height / 2 for block in (start, end)]
        top = self.starts[start.lane] - rise + 6
        path = (
            f"M{first:.1f} {heights[0]:.1f}V{top + 6:.1f}q0 -6 6 -6H{last - 6:.1f}q6 0 6 6V{heights[1]:.1f}"
        )
        return f'<path class="skip" d="{path}"/>'


def _single_effects(content: PageContent) -> Mapping[str, Effect]:
    """The first measured effect of each layer, or of its block, on the first score, by layer name."""
    effects = content.sensitivities[0].effects if content.sensitivities else ()
    by_unit: dict[tuple[str, str], Effect] = {}
    for effect in effects:
        by_unit.setdefault((effect.unit, effect.name), effect)
    found = {}
    for layer in content.study.layers:
        own = by_unit.get(("layer", layer.name), by_unit.get(("block", layer.block)))
        if own is not None:
            found[layer.name] = own
    return found


def _costs(content: PageContent) -> dict[str, float]:
    """The width of each layer's outline: thickest where it costs the whole limit, or most of all."""
    effects = _single_effects(content)
    sizes = {name: _damage(effect, content) for name, effect in effects.items()}
    metric = content.sensitivities[0].metric if content.sensitivities else ""
    limit = content.limits.get(metric)
    whole = limit.points if limit is not None and limit.points > 0 else max(sizes.values(), default=0.0)
    shares = {name: min(size / whole, 1.0) if whole else 0.0 for name, size in sizes.items()}
    return {
        layer.name: _THICKEST * share if (share := shares.get(layer.name, 0.0)) >= _LEAST_SHARE_DRAWN else 0.0
        for layer in content.study.layers
    }


def _damage(effect: Effect, content: PageContent) -> float:
    """The amount by which the unit in INT8 worsens the score; 0 where it does not."""
    is_worse = (effect.value > 0) is content.sensitivities[0].lower_is_better
    is_kept = effect.origin == IsolationKind.ALL_BUT_INT8
    return abs(effect.value) if is_worse is not is_kept else 0.0


def _facts(content: PageContent) -> dict[str, str]:
    """A line on each layer: precision, share of the work, cost, and why."""
    effects, total = _single_effects(content), sum(layer.macs for layer in content.study.layers) or 1
    return {
        layer.name: _line(layer, content, effects.get(layer.name), total) for layer in content.study.layers
    }


def _line(layer: Layer, content: PageContent, effect: Effect | None, total: int) -> str:
    parts = [layer.name, f"{layer.macs / total:.1%} of the work"]
    if content.chosen is not None:
        parts.insert(1, built_map(content.chosen)[layer.name].upper())
    if effect is not None:
        metric = short_name(content.sensitivities[0].metric)
        parts.append(
            f"{metric} {'+' if effect.value > 0 else ''}{format_value(effect.value, 3)}, {effect.label}"
        )
    reason: Reason | None = content.reasons.get(layer.name)
    if reason is not None:
        parts.append(f"{word_of(reason)}: {reason.text}")
    return " · ".join(parts)


def _legend(content: PageContent) -> str:
    """The meaning of colours, sizes and outlines; only what is there."""
    words = []
    if content.chosen is not None:
        shown = built_map(content.chosen)
        used = {shown[layer.name] for layer in content.study.layers}
        words += [chip(precision) for precision in Precision if precision in used]
    words.append("height: share of the work")
    if any(_costs(content).values()):
        metric = short_name(content.sensitivities[0].metric)
        words.append(f'<span class="outline">outline</span>: what it alone does to {escape(metric)}')
    if content.connections is None:
        words.append("in the order in which the layers run: this run did not keep their connections")
    return f"<figcaption>{' · '.join(words)}</figcaption>"

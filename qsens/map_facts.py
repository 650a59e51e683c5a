"""What reasons are looked up in: the trials around a chosen map, and sets of layers in words."""

import math
from dataclasses import dataclass
from functools import cached_property

from qsens.core.maps import anchor_trial
from qsens.core.precision import Precision
from qsens.core.trial import Study, Trial
from qsens.selection.budget import Limit
from qsens.selection.evidence_of_limits import Reading, TriedMap, Yardstick, int8_bits, tried_maps
from qsens.selection.timings import Timings

MOST_NAMED = 3
"""More layers than this are named by their block, or counted."""


@dataclass(frozen=True)
class MapFacts:
    """A chosen trial among the others of its study. `limits` are those that it was chosen within."""

    study: Study
    chosen: Trial
    limits: tuple[Limit, ...]
    timings: Timings | None

    @cached_property
    def yardstick(self) -> Yardstick:
        """The limits with FP32's scores."""
        return Yardstick(self.limits, anchor_trial(self.study, Precision.FP32))

    @cached_property
    def tried(self) -> tuple[TriedMap, ...]:
        """Everything that tells something of the limits."""
        return tried_maps(self.study, self.chosen, self.yardstick)

    @cached_property
    def int8(self) -> int:
        """INT8 layers of the chosen map."""
        return int8_bits(self.study, self.chosen)

    @cached_property
    def movable(self) -> int:
        """Layers that may be INT8."""
        allowed = [Precision.INT8 in layer.allowed for layer in self.study.layers]
        return sum(1 << place for place, is_allowed in enumerate(allowed) if is_allowed)

    @cached_property
    def supersets(self) -> tuple[TriedMap, ...]:
        """Maps with all INT8 layers of the chosen one and more, the fewest more first."""
        found = [tried for tried in self.tried if self.more(tried) and not self.int8 & ~tried.int8]
        found.sort(key=lambda tried: (self.more(tried).bit_count(), tried.is_screen, tried.number))
        return tuple(found)

    @cached_property
    def beyond(self) -> tuple[TriedMap, ...]:
        """Those that are beyond the limits."""
        return tuple(tried for tried in self.supersets if tried.is_beyond)

    @cached_property
    def everything(self) -> TriedMap | None:
        """INT8 wherever it is allowed."""
        return next((tried for tried in self.tried if tried.int8 == self.movable and tried.readings), None)

    @cached_property
    def blocks(self) -> dict[str, int]:
        """Places of the layers of each block, as bits."""
        found: dict[str, int] = {}
        for place, layer in enumerate(self.study.layers):
            found[layer.block] = found.get(layer.block, 0) | 1 << place
        return found

    @cached_property
    def readings(self) -> dict[str, Reading]:
        """The chosen trial's scores on all images, by metric."""
        return self.yardstick.readings(self.chosen.scores, is_screen=False)

    def taken(self, tried: TriedMap, worst: Reading) -> str:
        """What a trial takes of the points of its `worst` reading; names a metric that is not the first."""
        if not math.isfinite(worst.cost):
            return f"{worst} (trial {tried.number})"
        metric = "" if worst.limit is self.limits[0] else f", {worst.limit.metric}"
        images = f", on {worst.images} images" if worst.is_screen else ""
        where = f"trial {tried.number}{metric}{images}"
        return f"{worst.cost:.3g} of the {worst.limit.points:.4g} allowed ({where})"

    def more(self, tried: TriedMap) -> int:
        """INT8 layers that the chosen map does not have."""
        return tried.int8 & ~self.int8

    def spared(self, tried: TriedMap) -> int:
        """Layers that could be INT8 and are not."""
        return self.movable & ~tried.int8

    def block(self, place: int) -> int:
        """The layers of the block of the layer at `place`."""
        return self.blocks[self.study.layers[place].block]

    def names(self, bits: int) -> str:
        """Layers in words: at most three by name, else their block, else how many."""
        layers = [layer for place, layer in enumerate(self.study.layers) if bits >> place & 1]
        if len(layers) <= MOST_NAMED:
            names = [layer.name for layer in layers]
            return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), names[-1]])
        blocks = {layer.block for layer in layers}
        where = f" of {blocks.pop()}" if len(blocks) == 1 else f" ({layers[0].name} to {layers[-1].name})"
        return f"{len(layers)} layers{where}"

"""A chosen map among the others of its study: which of them are near it, and which layers are to blame."""

import math
from dataclasses import dataclass
from functools import cached_property

from qsens.core.maps import anchor_trial
from qsens.core.precision import Precision
from qsens.core.schema import in_words
from qsens.core.trial import Study, Trial
from qsens.selection.budget import Limit
from qsens.selection.evidence_of_limits import LimitCheck, Limits, MapTrial, layers_in_int8, map_trials
from qsens.selection.timings import Timings

# More layers than this are named by their block, or counted.
MOST_NAMED = 3


@dataclass(frozen=True)
class Neighbourhood:
    """A chosen trial among the others of its study. `limits` are those that it was chosen within."""

    study: Study
    chosen: Trial
    limits: tuple[Limit, ...]
    timings: Timings | None

    @cached_property
    def measured_limits(self) -> Limits:
        """The limits with FP32's scores."""
        return Limits(self.limits, anchor_trial(self.study, Precision.FP32))

    @cached_property
    def tried(self) -> tuple[MapTrial, ...]:
        """Everything that tells something of the limits."""
        return map_trials(self.study, self.chosen, self.measured_limits)

    @cached_property
    def int8_layers(self) -> frozenset[str]:
        """INT8 layers of the chosen map."""
        return layers_in_int8(self.study, self.chosen)

    @cached_property
    def movable(self) -> frozenset[str]:
        """Layers that may be INT8."""
        return frozenset(layer.name for layer in self.study.layers if Precision.INT8 in layer.allowed)

    @cached_property
    def supersets(self) -> tuple[MapTrial, ...]:
        """Maps with all INT8 layers of the chosen one and more, the fewest more first."""
        found = [tried for tried in self.tried if self.int8_layers < tried.int8_layers]
        found.sort(key=lambda tried: (len(tried.int8_layers), tried.is_screen, tried.number))
        return tuple(found)

    @cached_property
    def least_beyond(self) -> tuple[MapTrial, ...]:
        """The maps beyond the limits that hold no other such map, the smallest first."""
        found: list[MapTrial] = []
        for tried in sorted(self.tried, key=lambda tried: (len(tried.int8_layers), tried.number)):
            if not tried.is_beyond or not tried.int8_layers:
                continue
            if not any(part.int8_layers < tried.int8_layers for part in found):
                found.append(tried)
        return tuple(found)

    def parts_beyond(self, tried: MapTrial) -> list[MapTrial]:
        """The least maps beyond the limits that are a part of another one."""
        return [part for part in self.least_beyond if part.int8_layers < tried.int8_layers]

    @cached_property
    def blamed(self) -> dict[str, MapTrial]:
        """By layer, the nearest map beyond the limits that the layer is to blame for.

        It is not where a part of the map without the layer is beyond the limits too. The nearest has the
        fewest layers beside the chosen map's, then lacks the fewest of these.
        """
        found: dict[str, MapTrial] = {}
        for tried in sorted(self.tried, key=self._distance):
            if tried.is_beyond:
                parts = [part.int8_layers for part in self.parts_beyond(tried)]
                for layer in self.more(tried).intersection(*parts):
                    found.setdefault(layer, tried)
        return found

    def is_nearest(self, tried: MapTrial, layer: str) -> bool:
        """Whether no map that blames the layer is nearer to the chosen one."""
        blaming = self.blamed.get(layer)
        return blaming is None or self._distance(tried) < self._distance(blaming)

    def _distance(self, tried: MapTrial) -> tuple[int, int, bool, int]:
        missing = self.int8_layers - tried.int8_layers
        return len(self.more(tried)), len(missing), tried.is_screen, tried.number

    def blocker(self, layer: str) -> MapTrial | None:
        """A map beyond the limits without the layer, on top of which alone it was tried."""
        for tried in self.supersets:
            if layer in tried.int8_layers and tried.is_beyond:
                parts = self.parts_beyond(tried)
                return next((part for part in parts if layer not in part.int8_layers), None)
        return None

    @cached_property
    def alone(self) -> dict[str, MapTrial]:
        """By layer, the trial within the limits with only it in INT8, else with it and some of its block."""
        within = [tried for tried in self.tried if tried.int8_layers and tried.worst and not tried.is_beyond]
        within.sort(key=lambda tried: (len(tried.int8_layers), tried.is_screen, tried.number))
        found: dict[str, MapTrial] = {}
        for tried in within:
            if tried.int8_layers <= self.blocks[min(tried.int8_layers)]:
                for layer in tried.int8_layers:
                    found.setdefault(layer, tried)
        return found

    @cached_property
    def blocks(self) -> dict[str, frozenset[str]]:
        """The layers of each layer's block, by the layer's name."""
        found: dict[str, list[str]] = {}
        for layer in self.study.layers:
            found.setdefault(layer.block, []).append(layer.name)
        return {layer.name: frozenset(found[layer.block]) for layer in self.study.layers}

    @cached_property
    def checks(self) -> dict[str, LimitCheck]:
        """The chosen trial's scores on all images, by metric."""
        return self.measured_limits.checks(self.chosen.scores, is_screen=False)

    def taken(self, tried: MapTrial, worst: LimitCheck) -> str:
        """The points that a trial takes by its `worst` check; names a metric that is not the first."""
        if not math.isfinite(worst.cost):
            return f"{worst} (trial {tried.number})"
        metric = "" if worst.limit is self.limits[0] else f", {worst.limit.metric}"
        images = f", on {worst.images} images" if worst.is_screen else ""
        where = f"trial {tried.number}{metric}{images}"
        return f"{worst.cost:.3g} of the {worst.limit.points:.4g} allowed ({where})"

    def more(self, tried: MapTrial) -> frozenset[str]:
        """INT8 layers that the chosen map does not have."""
        return tried.int8_layers - self.int8_layers

    def start(self, tried: MapTrial, layer: str) -> str:
        """The beginning of a sentence on a map with the layer in INT8."""
        if tried.int8_layers == self.movable and len(self.more(tried)) > MOST_NAMED:
            return "with everything else in INT8"
        kept = tried.int8_layers & self.int8_layers
        if not kept:
            return f"{self.names_alone(tried, layer)} in INT8"
        if kept == self.int8_layers:
            return f"with {self.names_beside(tried, layer)} in INT8 too"
        others = f"{self.names(kept)} of the chosen map's INT8 layers"
        more = self.more(tried) - {layer}
        return f"in INT8 with {others}{f' and with {self.names(more)}' if more else ''}"

    def names_beside(self, tried: MapTrial, layer: str) -> str:
        """The layers of a map beside the chosen map's: `it`, or names."""
        more = self.more(tried)
        return "it" if more == {layer} else self.names(more)

    def names_alone(self, tried: MapTrial, layer: str) -> str:
        """All INT8 layers of a map with none of the chosen map's: `alone`, or names."""
        return "alone" if tried.int8_layers == {layer} else f"{self.names(tried.int8_layers)} alone"

    def names(self, chosen: frozenset[str]) -> str:
        """Layers in words: at most three by name, else their block, else how many."""
        layers = [layer for layer in self.study.layers if layer.name in chosen]
        if len(layers) <= MOST_NAMED:
            return in_words([layer.name for layer in layers])
        blocks = {layer.block for layer in layers}
        where = f" of {blocks.pop()}" if len(blocks) == 1 else f" ({layers[0].name} to {layers[-1].name})"
        return f"{len(layers)} layers{where}"

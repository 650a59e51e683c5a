"""Strategies over many units: each layer's precisions are looked up a few times, not once a map."""

from dataclasses import replace

import numpy as np
import pytest
from guided_problems import chain

from qsens.core.interfaces import Strategy
from qsens.core.layer import map_of
from qsens.core.maps import anchor_maps
from qsens.core.plugins import create
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Trial
from qsens.run.loop import plan_maps
from qsens.search.enumerations import units_of
from qsens.search.unit_maps import UnitMaps

COUNT = 120


def mixed_layers(seed, count):
    """Layers of which some are pinned, or may not run in one precision."""
    random = np.random.default_rng(seed)
    allowed = [frozenset(Precision), frozenset({Precision.FP32}), frozenset({Precision.INT8, Precision.FP32})]
    return tuple(replace(layer, allowed=allowed[random.integers(3)]) for layer in chain([10] * count))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("by", ["layer", "block"])
def test_maps_of_units_are_what_each_layer_allows(seed, by):
    random = np.random.default_rng(seed)
    layers = tuple(
        replace(layer, block=f"block{layer.index % 4}")
        for layer in mixed_layers(seed, int(random.integers(2, 12)))
    )
    units = units_of(layers, by)
    maps = UnitMaps.of(units, Precision.FP16, frozenset({layers[0].name}))
    for _ in range(5):
        chosen = {place for place in range(len(units)) if random.random() < 0.5}
        wished = {
            layer.name: Precision.INT8 if place in chosen else Precision.FP16
            for place, unit in enumerate(units)
            for layer in unit.layers
        }
        if 0 not in chosen:
            wished[layers[0].name] = Precision.FP32
        assert maps.with_int8(chosen) == map_of(layers, wished)
    moved = [place for place in range(len(units)) if maps.with_int8([place]) != maps.floats]
    assert list(maps.movable) == moved


@pytest.mark.parametrize("name", ["boundary", "one-at-a-time", "guided", "additive"])
def test_what_layers_allow_is_not_asked_again_for_every_map(name):
    asked = []

    class Asked(frozenset):
        def __contains__(self, precision):
            asked.append(precision)
            return super().__contains__(precision)

    layers = tuple(replace(layer, allowed=Asked(Precision)) for layer in chain([10] * COUNT))
    options = {"by": "layer", **({"budget": "5%"} if name == "guided" else {})}
    strategy: Strategy = create("strategies", name, options)
    plan = plan_maps(layers, strategy)
    assert len(plan.maps) + len(plan.screens) >= COUNT
    # Twice the maps of 120 layers would be 28,800 and more.
    assert len(asked) < 40 * COUNT


def test_equal_maps_are_one_key_and_a_map_knows_its_layers():
    layers = chain([10] * 5)
    one, other = (
        anchor_maps(layers)[Precision.INT8],
        map_of(layers, {each.name: Precision.INT8 for each in layers}),
    )
    assert len({one, other}) == 1
    mixed = PrecisionMap(
        Precision.FP32, (("b", Precision.INT8), ("a", Precision.FP16), ("c", Precision.FP32))
    )
    assert mixed == PrecisionMap(Precision.FP32, (("a", Precision.FP16), ("b", Precision.INT8)))
    assert [mixed[name] for name in "abcd"] == ["fp16", "int8", "fp32", "fp32"]
    assert Trial(0, mixed, mixed, Outcome.SCORED) == Trial(0, mixed, mixed, Outcome.SCORED)

from dataclasses import replace

import pytest

from qsens.core.errors import SpecError
from qsens.core.layer import Layer
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Screen, Trial, requested_map
from qsens.search.enumerations import Boundary, Chain, Curve, Ends, Exhaustive, OneAtATime
from qsens.testing import check_strategy, example_layers

LETTER = {Precision.INT8: "8", Precision.FP16: "h", Precision.FP32: "f"}


def layers(blocks: str) -> tuple[Layer, ...]:
    """One layer a letter; the letter is its block."""
    return tuple(
        Layer(f"{block}.{index}", f"node{index}", "Conv", block, index, 10, 100, 100, (1, 4, 8, 8))
        for index, block in enumerate(blocks)
    )


def spelt(maps: list[PrecisionMap], among: tuple[Layer, ...]) -> list[str]:
    """Each map as a word with one letter a layer, in execution order."""
    return ["".join(LETTER[precision_map[layer.name]] for layer in among) for precision_map in maps]


def proposed(strategy, among, trials=()) -> list[str]:
    return spelt(strategy.propose(among, trials), among)


def test_boundary_proposes_every_cut_in_both_directions():
    assert proposed(Boundary(), layers("abcd")) == ["8hhh", "88hh", "888h", "h888", "hh88", "hhh8"]


def test_boundary_goes_one_way_when_asked():
    assert proposed(Boundary(direction="float-first"), layers("abc")) == ["h88", "hh8"]


def test_boundary_by_block_moves_blocks_whole():
    assert proposed(Boundary(by="block", direction="int8-first"), layers("aabbb")) == ["88hhh"]


def test_boundary_in_fp32_instead_of_fp16():
    assert proposed(Boundary(float_precision="fp32", direction="int8-first"), layers("ab")) == ["8f"]


def test_ends_proposes_every_pair_that_leaves_a_middle():
    maps = proposed(Ends(by="layer", first=1, last=2), layers("abcd"))
    assert maps == ["8888", "888h", "88hh", "h888", "h88h", "h8hh"]


def test_ends_leaves_out_pairs_without_int8():
    assert proposed(Ends(by="layer", first=2, last=2), layers("ab")) == ["88", "8h", "h8"]


def test_one_at_a_time_proposes_each_layer_from_both_sides():
    assert proposed(OneAtATime(), layers("abc")) == ["8hh", "h8h", "hh8", "h88", "8h8", "88h"]


def test_exhaustive_proposes_every_map_once():
    maps = proposed(Exhaustive(by="layer"), layers("abc"))
    assert len(maps) == len(set(maps)) == 8


def test_exhaustive_refuses_more_maps_than_its_limit_naming_both_numbers():
    with pytest.raises(SpecError, match=r"4 units \(layers\) make 16 maps, over the limit of 10"):
        Exhaustive(by="layer", maximum_maps=10).propose(layers("abcd"), ())


@pytest.mark.parametrize("strategy", [Boundary(), Ends(), OneAtATime(), Exhaustive()])
def test_tried_maps_are_not_proposed_again(strategy):
    among = layers("abcd")
    first = strategy.propose(among, ())
    tried = [Trial(number, wanted, wanted, Outcome.SCORED) for number, wanted in enumerate(first[:3])]
    assert strategy.propose(among, tried) == first[3:]


def test_pinned_layers_keep_the_nearest_precision_they_allow():
    among = layers("abc")
    pinned = (replace(among[0], allowed=frozenset({Precision.FP16})), *among[1:])
    assert proposed(Boundary(direction="int8-first"), pinned) == ["hhh", "h8h"]
    only_fp32 = (replace(among[0], allowed=frozenset({Precision.FP32})), *among[1:])
    assert proposed(Boundary(direction="int8-first"), only_fp32) == ["fhh", "f8h"]


@pytest.mark.parametrize("make", [Boundary, OneAtATime])
def test_unknown_direction_is_refused_with_the_ones_there_are(make):
    with pytest.raises(SpecError, match="'sideways'") as caught:
        make(direction="sideways")
    assert "both" in caught.value.hint


def test_unknown_unit_is_refused():
    with pytest.raises(SpecError, match="'stage'"):
        Boundary(by="stage").propose(layers("ab"), ())


def test_negative_ends_are_refused():
    with pytest.raises(SpecError, match="-1"):
        Ends(first=-1)


def test_a_chain_tries_what_its_members_try_once():
    chain = example_layers(8)
    members = (Boundary(), Ends(first=2, last=2))
    alone = {trial.requested for member in members for trial in check_strategy(member, chain)}
    together = [trial.requested for trial in check_strategy(Chain(members), chain)]
    assert len(together) == len(set(together))
    assert set(together) == alone
    assert Chain(members).name == "boundary+ends"


def test_a_chain_of_nothing_is_refused():
    with pytest.raises(SpecError, match="no strategies"):
        Chain([])


def test_a_curve_screens_cuts_that_are_spread_evenly():
    among = layers("abcdefgh")
    every = Curve().propose(among, ())
    assert all(isinstance(request, Screen) for request in every)
    assert spelt(map(requested_map, every), among) == ["8" * cut + "h" * (8 - cut) for cut in range(1, 8)]
    assert spelt(map(requested_map, Curve(points=2).propose(among, ())), among) == ["88hhhhhh", "888888hh"]
    assert Curve().propose(among[:1], ()) == []

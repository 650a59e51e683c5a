from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_studies import layer, map_of, student_layers, style_layers

from qsens.core.maps import (
    Cut,
    Direction,
    Ends,
    IsolationKind,
    anchor_name,
    cuts_of,
    ends_of,
    isolations_of,
    map_title,
)
from qsens.core.precision import Precision, PrecisionMap

LAYERS = student_layers()
TOTAL = len(LAYERS)


@settings(max_examples=60, deadline=None)
@given(boundary=st.integers(1, TOTAL - 1), int8_first=st.booleans(), fp16=st.booleans())
def test_a_map_made_from_a_cut_is_read_back_as_that_cut(boundary, int8_first, fp16):
    side = Precision.FP16 if fp16 else Precision.FP32
    chosen = range(boundary) if int8_first else range(boundary, TOTAL)
    direction = Direction.INT8_FIRST if int8_first else Direction.FLOAT_FIRST
    assert cuts_of(map_of(LAYERS, chosen, side), LAYERS) == (Cut(boundary, direction, side),)


def test_uniform_maps_are_the_end_points_of_both_directions():
    assert cuts_of(PrecisionMap(Precision.FP16), LAYERS) == (
        Cut(0, Direction.INT8_FIRST, Precision.FP16),
        Cut(TOTAL, Direction.FLOAT_FIRST, Precision.FP16),
    )
    assert cuts_of(PrecisionMap(Precision.INT8), LAYERS) == (
        Cut(TOTAL, Direction.INT8_FIRST, None),
        Cut(0, Direction.FLOAT_FIRST, None),
    )


def test_maps_that_switch_twice_or_mix_floats_are_no_cut():
    assert cuts_of(map_of(LAYERS, [3]), LAYERS) == ()
    mixed = map_of(LAYERS, range(5)).with_layers([LAYERS[-1].name], Precision.FP32)
    assert cuts_of(mixed, LAYERS) == ()


def test_pinned_layers_do_not_break_a_cut():
    only = frozenset({Precision.FP32})
    layers = tuple(replace(entry, allowed=only) if entry.index == 2 else entry for entry in LAYERS)
    requested = map_of(LAYERS, range(6)).with_layers([LAYERS[2].name], Precision.FP32)
    assert cuts_of(requested, layers) == (Cut(6, Direction.INT8_FIRST, Precision.FP16),)
    everywhere = PrecisionMap(Precision.INT8).with_layers([LAYERS[2].name], Precision.FP32)
    assert map_title(everywhere, layers) == "INT8 where it can be"
    assert anchor_name(Precision.INT8, layers) == "INT8 where it can be"
    assert anchor_name(Precision.INT8, LAYERS) == "all INT8"
    assert anchor_name(Precision.FP32, layers) == "FP32"


@pytest.mark.parametrize(("first", "last"), [(0, 0), (2, 3), (0, 4), (5, 0)])
def test_ends_are_counted_from_the_map(first, last):
    assert ends_of(map_of(LAYERS, range(first, TOTAL - last)), LAYERS) == Ends(first, last)


def test_all_float_and_scattered_maps_have_no_ends():
    assert ends_of(PrecisionMap(Precision.FP16), LAYERS) is None
    assert ends_of(map_of(LAYERS, [1, 3]), LAYERS) is None


def test_isolated_layers_and_blocks_are_named():
    layers = style_layers()
    only = isolations_of(map_of(layers, [4]), layers)
    assert [(entry.kind, entry.unit, entry.name) for entry in only] == [
        (IsolationKind.ONLY_INT8, "layer", "residual_1.conv4")
    ]
    assert not only[0].is_at_an_end
    block = map_of(layers, [place for place in range(len(layers)) if place not in (3, 4)])
    assert [(entry.kind, entry.unit, entry.name) for entry in isolations_of(block, layers)] == [
        (IsolationKind.ALL_BUT_INT8, "block", "residual_1")
    ]
    assert isolations_of(map_of(layers, [4, 5]), layers) == ()
    assert isolations_of(PrecisionMap(Precision.INT8), layers) == ()


def test_with_two_layers_both_are_isolated():
    pair = (layer(0, "a", "a", 1), layer(1, "b", "b", 1))
    kinds = {entry.kind: entry.name for entry in isolations_of(map_of(pair, [0]), pair)}
    assert kinds == {IsolationKind.ONLY_INT8: "a", IsolationKind.ALL_BUT_INT8: "b"}


def test_titles_say_what_a_map_is():
    scattered = map_of(LAYERS, [1, 2, 5, 9])
    assert map_title(PrecisionMap(Precision.FP32), LAYERS) == "all FP32"
    assert map_title(map_of(LAYERS, range(21)), LAYERS) == "first 21 INT8, last 2 FP16"
    assert map_title(map_of(LAYERS, range(2, 23)), LAYERS) == "first 2 FP16, last 21 INT8"
    assert map_title(map_of(LAYERS, [7]), LAYERS) == "only FE1 INT8"
    assert map_title(map_of(LAYERS, range(2, 20)), LAYERS) == "first 2 and last 3 in float, rest INT8"
    assert map_title(scattered, LAYERS) == "4 of 23 layers INT8"


def test_a_map_without_int8_is_named_by_its_fp16_layers():
    mixed = PrecisionMap(Precision.FP32).with_layers([LAYERS[4].name, LAYERS[9].name], Precision.FP16)
    assert map_title(mixed, LAYERS) == "2 of 23 layers FP16"

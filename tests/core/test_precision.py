"""Precision maps: canonical form, JSON, digests."""

import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qsens.core.errors import SpecError
from qsens.core.precision import Precision, PrecisionMap, parse_precision

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
ASSIGNMENTS = st.dictionaries(NAMES, st.sampled_from(Precision), min_size=1, max_size=12)
MAPS = st.builds(
    lambda default, overrides: PrecisionMap(default, tuple(overrides.items())),
    st.sampled_from(Precision),
    ASSIGNMENTS,
)


@settings(max_examples=30, deadline=None)
@given(MAPS)
def test_a_map_survives_json(precision_map):
    text = json.dumps(precision_map.to_json())
    assert PrecisionMap.from_json(json.loads(text)) == precision_map


@settings(max_examples=30, deadline=None)
@given(ASSIGNMENTS, st.sampled_from(Precision))
def test_equal_assignments_have_one_canonical_map_and_digest(assignment, default):
    spelled_out = PrecisionMap(default, tuple(assignment.items()))
    canonical = PrecisionMap.over(spelled_out.assignment(reversed(list(assignment))))
    assert canonical == PrecisionMap.over(assignment)
    assert canonical.digest == PrecisionMap.over(assignment).digest
    assert canonical.assignment(assignment) == assignment


@settings(max_examples=30, deadline=None)
@given(MAPS, MAPS)
def test_digests_differ_where_maps_differ(one, other):
    assert (one == other) == (one.digest == other.digest)


def test_overrides_that_say_the_default_are_dropped():
    precision_map = PrecisionMap(Precision.INT8, (("a", Precision.INT8), ("b", Precision.FP16)))
    assert precision_map.overrides == (("b", Precision.FP16),)


def test_an_empty_assignment_is_refused():
    with pytest.raises(SpecError, match="at least one layer"):
        PrecisionMap.over({})


@pytest.mark.parametrize("value", [{}, {"default": "int8", "overrides": ["a"]}])
def test_json_of_another_form_is_refused(value):
    with pytest.raises(SpecError, match="not a precision map"):
        PrecisionMap.from_json(value)


def test_an_unknown_precision_is_named():
    with pytest.raises(SpecError, match="'int4'"):
        parse_precision("int4")


def test_a_map_takes_no_hash_into_another_process():
    one = PrecisionMap(Precision.FP16, (("a", Precision.INT8),))
    assert hash(one) == hash(PrecisionMap(Precision.FP16, (("a", Precision.INT8),)))
    moved = pickle.loads(pickle.dumps(one))
    assert moved == one
    assert "_hash" not in vars(moved)

"""What is kept between maps, and what gives way when there is no room."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qsens.engines.shared_prefix import KeptTensors, feed_digest


def bytes_of(count):
    return np.zeros(count, np.uint8)


def test_values_come_back_by_feed():
    kept = KeptTensors(100)
    kept.keep("one", {"a": bytes_of(10)}, 0)
    kept.keep("other", {"b": bytes_of(5)}, 0)
    assert set(kept.of_feed("one")) == {"a"}
    assert kept.of_feed("never") == {}
    assert kept.digests() == {"a", "b"}
    assert kept.size_bytes == 15


def test_sooner_takes_the_room_of_later_and_not_the_other_way_round():
    kept = KeptTensors(20)
    kept.keep("one", {"late": bytes_of(15)}, 3)
    kept.keep("two", {"soon": bytes_of(15)}, 1)
    assert kept.digests() == {"soon"}
    kept.keep("three", {"late": bytes_of(15)}, 3)
    kept.keep("four", {"soon": bytes_of(15)}, 1)
    assert kept.of_feed("two").keys() == {"soon"}
    assert kept.of_feed("three") == kept.of_feed("four") == {}


def test_tensors_of_one_cut_stay_together():
    kept = KeptTensors(20)
    kept.keep("one", {"a": bytes_of(15), "b": bytes_of(15)}, 0)
    assert kept.digests() == frozenset()
    assert kept.size_bytes == 0


def test_retaining_drops_the_others_and_ranks_anew():
    kept = KeptTensors(20)
    kept.keep("one", {"a": bytes_of(10)}, 5)
    kept.keep("one", {"b": bytes_of(10)}, 5)
    kept.retain({"a": 0})
    assert kept.digests() == {"a"}
    kept.keep("two", {"c": bytes_of(15)}, 1)
    assert kept.digests() == {"a"}  # the next map needs it


def test_a_feed_is_told_apart_by_name_type_shape_and_value():
    base = {"x": np.zeros((2, 3), np.float32)}
    others = [
        {"y": np.zeros((2, 3), np.float32)},
        {"x": np.zeros((3, 2), np.float32)},
        {"x": np.zeros((2, 3), np.int32)},
        {"x": np.ones((2, 3), np.float32)},
        {"x": np.zeros((1, 3), np.float32)},
    ]
    assert feed_digest(base) == feed_digest({"x": np.zeros((2, 3), np.float32)})
    assert len({feed_digest(feed) for feed in [base, *others]}) == 6


steps = st.lists(
    st.tuples(
        st.sampled_from(["keep", "drop", "retain"]),
        st.sampled_from("pqr"),
        st.sets(st.sampled_from("abcd"), max_size=3),
        st.integers(0, 4),
        st.integers(1, 40),
    ),
    max_size=25,
)


@given(steps)
def test_the_limit_holds_and_the_size_is_true(done):
    kept = KeptTensors(64)
    for action, feed, digests, rank, size in done:
        if action == "keep":
            kept.keep(feed, {digest: bytes_of(size) for digest in digests}, rank)
        elif action == "drop":
            kept.drop(feed, digests)
        else:
            kept.retain(dict.fromkeys(digests, rank))
        held = sum(value.nbytes for name in "pqr" for value in kept.of_feed(name).values())
        assert kept.size_bytes == held <= 64

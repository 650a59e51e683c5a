import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lowered_models import FP16, FP32, INT8, prepared, residual_generator

from qsens.engines.onnxruntime import applied_map, fits_half


def held_by_round_trip(values: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.array_equal(values, values.astype(np.float16).astype(np.float32)))


half_values = st.floats(width=16, allow_nan=False, allow_infinity=False)
any_values = st.floats(width=32, allow_nan=False)


@given(st.lists(st.one_of(half_values, any_values), min_size=1, max_size=6))
def test_fits_half_agrees_with_a_round_trip(numbers):
    values = np.array(numbers, np.float32)
    if np.isfinite(values).all():
        assert fits_half(values) == held_by_round_trip(values)


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        (65504.0, True),
        (65520.0, False),
        (2.0**-24, True),  # FP16's smallest number
        (2.0**-25, False),
        (2.0**-14 + 2.0**-24, True),
        (2.0**-15 + 2.0**-25, False),
        (np.nan, False),
        (np.inf, False),
    ],
)
def test_fits_half_at_the_ends_of_the_range(value, fits):
    assert fits_half(np.array([0.0, 1.0, value], np.float32)) is fits


@pytest.mark.parametrize("channels", [8, 48])  # small weights lie inside the graph, large ones beside it
def test_weights_decide_what_a_layer_reads_back_as(channels):
    setup = prepared(residual_generator(channels))
    wanted = dict(zip(setup.names, [INT8, FP16, FP32, INT8, FP16], strict=True))
    lowered = setup.lower(wanted)
    assert bool(lowered.detached.weights) == (channels == 48)
    model = lowered.model
    assert [applied_map(model, setup.graph)[name] for name in setup.names] == list(wanted.values())
    for tensor in model.graph.initializer:
        if tensor.name in ("middle:int8:0:weight", "w1:fp16"):
            values = np.frombuffer(tensor.raw_data, np.float32) * np.float32(1 + 2**-20)
            tensor.raw_data = values.tobytes()
    assert applied_map(model, setup.graph)["middle"] is FP32
    assert applied_map(model, setup.graph)["first"] is INT8

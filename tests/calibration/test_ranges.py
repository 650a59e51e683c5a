from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qsens.calibration.ranges import (
    RangeCollector,
    Ranges,
    TensorRange,
    collect_ranges,
    load_ranges,
    ranges_digest,
    save_ranges,
)
from qsens.calibration.thresholds import BINS, FALLBACK_AMAX, with_half_scale
from qsens.core.errors import DataError, RunFolderError, SpecError

METHODS = ["minmax", "percentile", "mse", "entropy"]


def batches_of(values, cuts):
    return [{"x": part} for part in np.split(values, cuts)]


def collected(batches, method, order=None):
    collector = RangeCollector(["x"], method)
    for batch in batches:
        collector.observe_extremes(batch)
    for index in order if order is not None else range(len(batches)):
        collector.observe_histogram(batches[index])
    return collector


def normals(count=5000, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_streaming_equals_one_shot(method):
    values = normals()
    one = collected([{"x": values}], method).finish(5000, "d")
    many = collected(batches_of(values, [7, 100, 4999]), method).finish(5000, "d")
    assert one == many


@given(cuts=st.lists(st.integers(0, 300), max_size=6), order=st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_order_and_the_size_of_batches_do_not_matter(cuts, order):
    values = normals(300)
    batches = batches_of(values, sorted(cuts))
    shuffled = list(range(len(batches)))
    order.shuffle(shuffled)
    whole = collected([{"x": values}], "mse").histogram("x")
    parts = collected(batches, "mse", shuffled).histogram("x")
    assert parts.maximum == whole.maximum
    np.testing.assert_array_equal(parts.counts, whole.counts)


def test_the_histogram_counts_magnitudes_in_equal_bins():
    values = np.array([0.0, -0.5, 1.5, 2.5, -2047.5, 2048.0], dtype=np.float32)
    histogram = collected([{"x": values}], "mse").histogram("x")
    assert histogram.maximum == 2048.0
    assert histogram.counts.dtype == np.int64
    np.testing.assert_array_equal(np.flatnonzero(histogram.counts), [0, 1, 2, BINS - 1])
    assert histogram.counts[0] == 2
    assert histogram.counts[-1] == 2


def test_a_long_array_is_counted_completely():
    values = np.linspace(-1.0, 1.0, 500_001, dtype=np.float32)
    histogram = collected([{"x": values}], "mse").histogram("x")
    assert histogram.counts.sum() == 500_001
    # Two magnitudes a bin width apart in a dense even grid: every bin holds the same, but for rounding.
    assert np.abs(histogram.counts - 500_001 / BINS).max() <= 3


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_extremes_are_kept_beside_the_threshold(dtype):
    ranges = collected([{"x": np.array([[-3.0, 1.0]], dtype=dtype)}], "minmax").finish(1, "d")
    assert ranges["x"] == TensorRange("x", -3.0, 1.0, with_half_scale(3.0))


@pytest.mark.parametrize("amax", [127.0, 3.0, 0.0313, 1.7e3, 8.1e6])
def test_the_scale_is_an_fp16_number_and_cuts_nothing_off(amax):
    found = with_half_scale(amax)
    scale = np.float32(found) / np.float32(127)
    assert np.float32(np.float16(scale)) == scale
    assert amax <= found <= amax * (1 + 2**-10)


def test_scales_of_fp16_are_kept_and_those_beyond_it_left_alone():
    kept = 127 * float(np.float16(0.0123))
    assert with_half_scale(kept) == kept
    for amax in (127 * 2.0**-15, 127 * 70000.0):
        assert with_half_scale(amax) == amax


@pytest.mark.parametrize("method", METHODS)
def test_zeros_get_the_fallback(method):
    ranges = collected([{"x": np.zeros((2, 3), dtype=np.float32)}], method).finish(2, "d")
    assert ranges["x"].amax == FALLBACK_AMAX


@pytest.mark.parametrize("value", [1e-44, 1e-31, 3e38])
@pytest.mark.parametrize("method", METHODS)
def test_extreme_magnitudes_give_a_finite_scale(method, value):
    ranges = collected([{"x": np.full((4, 4), value, dtype=np.float32)}], method).finish(4, "d")
    assert np.float32(ranges["x"].amax) / np.float32(127) > 0
    assert np.isfinite(ranges["x"].amax)


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_values_that_are_not_finite_name_the_tensor(value, word):
    with pytest.raises(DataError, match=f"'features/relu' holds .*{word}"):
        RangeCollector(["features/relu"], "minmax").observe_extremes(
            {"features/relu": np.array([1.0, value, 2.0], dtype=np.float32)}
        )


def test_a_tensor_that_is_not_produced_is_named():
    with pytest.raises(DataError, match="'y' was not produced"):
        RangeCollector(["y"], "minmax").observe_extremes({"x": np.ones(3)})


@pytest.mark.parametrize(("method", "wanted"), [("minmax", 1), ("entropy", 2)])
def test_collect_ranges_takes_the_passes_it_needs(method, wanted):
    calls = []

    def passes():
        calls.append(1)
        yield {"x": normals(4), "ignored": np.full(3, np.nan)}
        yield {"x": normals(3, seed=1)}

    ranges = collect_ranges(passes, ["x"], method=method, digest="d")
    assert len(calls) == wanted
    assert (ranges.samples, ranges.method, ranges.digest) == (7, method, "d")


def test_nothing_to_calibrate_on_is_an_error():
    with pytest.raises(DataError, match="no batch"):
        collect_ranges(lambda: iter(()), ["x"], method="minmax", digest="d")
    with pytest.raises(DataError, match="no values of tensor 'x'"):
        collect_ranges(
            lambda: iter([{"x": np.zeros((1, 0), dtype=np.float32)}]), ["x"], method="minmax", digest="d"
        )


def test_the_percentile_reaches_the_method():
    values = {"x": np.linspace(0, 1, 100_000, dtype=np.float32)[:, None]}
    ranges = collect_ranges(lambda: iter([values]), ["x"], method="percentile", digest="d", percentile=0.5)
    assert ranges["x"].amax == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(SpecError):
        RangeCollector(["x"], "percentile", percentile=99.9)


def test_the_digest_covers_graph_samples_method_and_fraction():
    keys = {
        ranges_digest("g", "s", "percentile", 0.999),
        ranges_digest("h", "s", "percentile", 0.999),
        ranges_digest("g", "t", "percentile", 0.999),
        ranges_digest("g", "s", "percentile", 0.99),
        ranges_digest("g", "s", "mse"),
    }
    assert len(keys) == 5
    assert ranges_digest("g", "s", "mse", 0.5) == ranges_digest("g", "s", "mse", 0.9)


SAVED = Ranges(
    "mse",
    12,
    "abc",
    (TensorRange("input", -1.0, 1.0, 1.0), TensorRange("a/b:0", -0.1, 7.3, float(np.float32(6.7)))),
    {"input": (-1.0, 1.0)},
)


def test_saved_ranges_come_back_equal(tmp_path):
    save_ranges(tmp_path / "ranges.npz", SAVED)
    assert load_ranges(tmp_path / "ranges.npz", "abc") == SAVED
    assert [path.name for path in tmp_path.iterdir()] == ["ranges.npz"]


def test_ranges_of_an_older_version_promise_nothing(tmp_path):
    path = tmp_path / "ranges.npz"
    save_ranges(path, SAVED)
    with np.load(path) as held:
        older = {name: held[name] for name in held.files if not name.startswith("promised")}
    np.savez(path, **{**older, "version": np.array(2)})
    assert load_ranges(path, "abc") == replace(SAVED, promised={})


def test_ranges_of_another_digest_or_none_are_not_loaded(tmp_path):
    assert load_ranges(tmp_path / "ranges.npz", "abc") is None
    save_ranges(tmp_path / "ranges.npz", SAVED)
    assert load_ranges(tmp_path / "ranges.npz", "other") is None


def test_damaged_ranges_are_never_believed(tmp_path):
    path = tmp_path / "ranges.npz"
    save_ranges(path, SAVED)
    content = path.read_bytes()
    for end in range(0, len(content), 37):
        path.write_bytes(content[:end])
        assert load_ranges(path, "abc") is None
    for position in range(0, len(content), 11):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        assert load_ranges(path, "abc") in (None, SAVED)


def test_a_full_disk_is_a_run_folder_error_and_keeps_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / "ranges.npz"
    save_ranges(path, SAVED)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(RunFolderError, match="space"):
        save_ranges(path, Ranges("mse", 1, "new", ()))
    assert load_ranges(path, "abc") == SAVED
    assert [entry.name for entry in tmp_path.iterdir()] == ["ranges.npz"]


def test_ranges_cannot_be_saved_where_there_is_no_folder(tmp_path):
    with pytest.raises(RunFolderError, match="cannot write"):
        save_ranges(tmp_path / "absent" / "ranges.npz", SAVED)

"""Goldens: read back, run in whole batches, and compared on what a viewer sees."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qsens.device.bundle_files import Bounds, Bundle, BundleInput
from qsens.device.errors import DeviceError
from qsens.device.goldens import (
    Goldens,
    batch_of,
    bundle_goldens,
    compare_with_goldens,
    picture_psnr,
    read_goldens,
    run_in_batches,
    write_goldens,
)

ENTRIES = (BundleInput("image", "float32", (2,), True), BundleInput("style/a", "float32", (1,), False))
INPUTS = {
    "image": np.arange(10, dtype=np.float32).reshape(5, 2),
    "style/a": np.full((5, 1), 7, np.float32),
}


def bundle_with(**bounds):
    values = {"fp32_psnr_db": 30.0, "exact_psnr_db": 30.0, **bounds}
    return Bundle(
        folder=Path(),
        runtime="onnxruntime",
        flavour="u8",
        batch=2,
        inputs=ENTRIES,
        outputs=("picture",),
        picture="picture",
        value_range=(0.0, 2.0),
        asked=(),
        float_pins=(),
        bounds=Bounds(**values),
        document={},
    )


def goldens_of(fp32, exact):
    return Goldens(INPUTS, {"picture": fp32}, {"picture": exact})


def test_goldens_are_read_back_whatever_tensors_are_called(tmp_path):
    written = Goldens(
        INPUTS, {"a/../b:0": np.ones((5, 1), np.float32)}, {"file": np.zeros((5, 1), np.float32)}
    )
    write_goldens(tmp_path / "goldens.npz", written)
    read = read_goldens(tmp_path / "goldens.npz")
    for before, after in zip(vars(written).values(), vars(read).values(), strict=True):
        assert list(before) == list(after)
        for name in before:
            np.testing.assert_array_equal(before[name], after[name])
    assert len(read) == 5


@pytest.mark.parametrize("keep", [0, 10, -20])
def test_torn_goldens_are_refused(tmp_path, keep):
    path = tmp_path / "goldens.npz"
    write_goldens(path, goldens_of(np.ones((5, 1), np.float32), np.ones((5, 1), np.float32)))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DeviceError, match=r"cannot read .*goldens\.npz"):
        read_goldens(path)


def test_a_batch_is_filled_up_with_the_last_sample():
    feed = batch_of(INPUTS, ENTRIES, 4, 3)
    np.testing.assert_array_equal(feed["image"], [[8, 9]] * 3)
    np.testing.assert_array_equal(feed["style/a"], [7])


def test_all_samples_run_in_feeds_of_one_size():
    sizes = []

    def run(feed):
        sizes.append(len(feed["image"]))
        return {"picture": feed["image"].sum(axis=1, keepdims=True) + feed["style/a"]}

    outputs = run_in_batches(run, INPUTS, ENTRIES, 2)
    assert sizes == [2, 2, 2]
    np.testing.assert_array_equal(outputs["picture"][:, 0], [8, 12, 16, 20, 24])


def test_psnr_is_that_of_the_formula_on_clipped_values():
    golden = np.zeros((1, 4), np.float32)
    values = np.array([[0.2, -5.0, 0.2, 0.0]], np.float32)  # below the range is what a viewer sees as 0
    assert picture_psnr(values, golden, (0.0, 2.0)) == pytest.approx(10 * math.log10(4 / 0.02), abs=1e-5)
    assert picture_psnr(golden, golden, (0.0, 2.0)) == 100.0
    assert picture_psnr(values + 9, golden + 2, (0.0, 2.0)) == 100.0


PICTURE = np.linspace(0.1, 1.9, 5, dtype=np.float32).reshape(5, 1)


def compared(outputs, **bounds):
    places = {float(row[0]): place for place, row in enumerate(INPUTS["image"])}

    def run(feed):
        rows = [places[float(row[0])] for row in feed["image"]]
        return {name: values[rows] for name, values in outputs.items()}

    return compare_with_goldens(run, bundle_with(**bounds), goldens_of(PICTURE, PICTURE + 0.002))


def test_an_engine_within_the_bounds_is_fine():
    result = compared({"picture": PICTURE + 0.02})
    assert result.problems == ()
    assert result.fp32_psnr_db == pytest.approx(40.0, abs=0.01)
    assert result.exact_psnr_db == pytest.approx(20 * math.log10(2 / 0.018), abs=0.01)


def test_an_engine_beyond_a_bound_is_a_problem_with_both_numbers():
    result = compared({"picture": PICTURE + 0.02}, fp32_psnr_db=41.0)
    assert result.problems == ("PSNR against the FP32 pictures is 40.00 dB, at least 41.00 dB was expected",)
    result = compared({"picture": PICTURE + 0.02}, exact_psnr_db=45.0)
    assert "the pictures that were scored is 40.9" in result.problems[0]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"picture": np.full((5, 1), np.nan)}, "holds 5 NaN or infinite"),
        ({"picture": np.where(PICTURE > 1.8, np.inf, PICTURE)}, "holds 1 NaN or infinite"),
        ({"picture": np.ones((5, 2))}, r"has shape \(5, 2\), the golden has \(5, 1\)"),
        ({"image": PICTURE}, "no output 'picture', it has image"),
    ],
)
def test_outputs_that_cannot_be_compared_are_problems(outputs, message):
    result = compared(outputs)
    assert len(result.problems) == 1
    assert re.search(message, result.problems[0])
    assert result.to_json()["fp32_psnr_db"] is None


def test_a_result_is_plain_values():
    result = compared({"picture": PICTURE})
    assert result.to_json()["fp32_psnr_db"] == 100.0
    assert replace(result, problems=("x",)).to_json()["problems"] == ["x"]


SAMPLES = {"goldens": {"samples": [0, 3, 6, 8, 9]}}
NAMES = {"input": ["image", "style/a"], "fp32": ["picture"], "exact": ["picture"]}
ARRAYS = {
    "input_0": INPUTS["image"],
    "input_1": INPUTS["style/a"],
    "fp32_0": np.ones((5, 1), np.float32),
    "exact_0": np.ones((5, 1), np.float32),
}


def of_bundle(folder, names=NAMES, **changes):
    """The goldens of a bundle in `folder`, whose arrays are changed; `None` leaves one out."""
    arrays = {key: value for key, value in {**ARRAYS, **changes}.items() if value is not None}
    text = names if isinstance(names, (str, np.ndarray)) else json.dumps(names)
    np.savez_compressed(folder / "goldens.npz", names=np.array(text), **arrays)
    return bundle_goldens(replace(bundle_with(), folder=folder, document=SAMPLES))


def test_goldens_that_are_what_the_document_says_are_read(tmp_path):
    assert len(of_bundle(tmp_path)) == 5


def test_a_second_output_need_not_be_by_sample(tmp_path):
    names = {**NAMES, "fp32": ["picture", "scale"], "exact": ["picture", "scale"]}
    more = {"fp32_1": np.ones(2, np.float32), "exact_1": np.ones(2, np.float32)}
    bundle = replace(bundle_with(), folder=tmp_path, document=SAMPLES, outputs=("picture", "scale"))
    np.savez(tmp_path / "goldens.npz", names=np.array(json.dumps(names)), **ARRAYS, **more)
    assert set(bundle_goldens(bundle).exact) == {"picture", "scale"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_0": INPUTS["image"][:0]}, "input 'image' is float32 0x2, expected float32 5x2"),
        ({"input_0": INPUTS["image"][:4]}, "input 'image' is float32 4x2"),
        ({"input_0": INPUTS["image"].astype(np.float64)}, "input 'image' is float64 5x2"),
        ({"input_0": np.array(3.0, np.float32)}, "input 'image' is float32 without axes"),
        ({"input_0": np.array(["text"] * 5)}, "input 'image' is <U4 5"),
        ({"input_0": np.array([None] * 5, dtype=object)}, "it is damaged: Object arrays"),
        ({"exact_0": np.ones((4, 1), np.float32)}, "output 'picture' is float32 4x1"),
        ({"exact_0": np.ones((5, 1))}, "output 'picture' is float64"),
        ({"fp32_0": np.array(1, np.float32), "exact_0": np.array(1, np.float32)}, "is float32 without axes"),
        ({"fp32_0": np.ones((4, 1), np.float32), "exact_0": np.ones((4, 1), np.float32)}, "for 5 samples"),
        ({"fp32_0": np.ones((5, 0), np.float32), "exact_0": np.ones((5, 0), np.float32)}, "for 5 samples"),
        ({"fp32_0": np.full((5, 1), np.nan, np.float32)}, "output 'picture' holds NaN or infinite values"),
        ({"exact_0": np.full((5, 1), np.inf, np.float32)}, "output 'picture' holds NaN or infinite values"),
        ({"exact_0": None}, "it lacks the array 'exact_0'"),
        ({"names": ""}, "cannot read"),
        ({"names": "[" * 100_000}, "nested more than 64 levels deep"),
        ({"names": "{}"}, "'names.input' is missing"),
        ({"names": np.arange(3)}, "cannot read"),
        ({"names": {**NAMES, "exact": []}}, "the exact outputs are none, expected picture"),
        ({"names": {**NAMES, "fp32": ["other"]}}, "the FP32 outputs are other, expected picture"),
        ({"names": {**NAMES, "input": ["image"]}}, "the inputs are image, expected image, style/a"),
        ({"names": {**NAMES, "input": ["image", "image"]}}, "'names.input' names 'image' twice"),
        ({"names": {**NAMES, "input": 3}}, "'names.input' is 3"),
        ({"names": {**NAMES, "input": [None, "image"]}}, "'names.input.0' is None"),
    ],
    ids=range(24),
)
def test_goldens_of_something_else_are_refused_by_name(tmp_path, changes, message):
    with pytest.raises(DeviceError) as caught:
        of_bundle(tmp_path, **changes)
    assert message in caught.value.message
    assert "goldens.npz" in caught.value.message
    assert caught.value.hint


def test_goldens_that_unpack_to_gigabytes_are_refused_by_their_size(tmp_path, monkeypatch):
    of_bundle(tmp_path)
    monkeypatch.setattr("qsens.device.goldens.LARGEST_BYTES", 10_000)
    with pytest.raises(DeviceError, match="it would unpack to 400,"):
        of_bundle(tmp_path, input_0=np.zeros((50_000, 2), np.float32))


def test_outputs_that_do_not_belong_together_are_an_error():
    with pytest.raises(DeviceError, match="outputs without samples"):
        run_in_batches(lambda feed: {"picture": np.float32(1)}, INPUTS, ENTRIES, 2)
    with pytest.raises(DeviceError, match="gives outputs without samples"):
        run_in_batches(
            lambda feed: {"picture": np.ones((2, int(feed["image"][0, 0]) + 1))}, INPUTS, ENTRIES, 2
        )


def test_values_that_are_no_numbers_are_a_problem():
    result = compared({"picture": np.array([["text"]] * 5)})
    assert result.problems == ("output 'picture' is of the type <U4, which is no number",)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_samples_with_other_values_of_an_input_without_batch_axis_run_apart(size):
    inputs = {**INPUTS, "style/a": np.array([[1], [1], [2], [1], [1]], np.float32)}

    def run(feed):
        assert len(feed["image"]) == size
        return {"picture": feed["image"] * feed["style/a"]}

    outputs = run_in_batches(run, inputs, ENTRIES, size)
    np.testing.assert_array_equal(outputs["picture"], INPUTS["image"] * inputs["style/a"])


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_a_value_without_axes_is_fed_as_an_array(dtype):
    entries = (ENTRIES[0], BundleInput("step", dtype, (), False))
    fed = []

    def run(feed):
        fed.append(feed["step"])
        return {"picture": feed["image"] * feed["step"]}

    steps = np.array([0, 1, 1, 0, 1]).astype(dtype)
    outputs = run_in_batches(run, {"image": INPUTS["image"], "step": steps}, entries, 2)
    assert all(isinstance(value, np.ndarray) and value.shape == () for value in fed)
    assert np.array_equal(outputs["picture"], INPUTS["image"] * steps[:, None])

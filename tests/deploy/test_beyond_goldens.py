"""Goldens beyond the calibration: what they are made of, and that a narrower format shows on them."""

from dataclasses import replace

import numpy as np
import pytest

from qsens.calibration.ranges import Ranges, TensorRange
from qsens.core.interfaces import InputSpec
from qsens.core.targets import target_named
from qsens.deploy.beyond_goldens import inputs_beyond
from qsens.deploy.bundle import ExportOptions, export_bundle
from qsens.deploy.chosen_map import map_of_trial
from qsens.device.bundle_files import BEYOND
from qsens.device.bundle_model import open_bundle
from qsens.device.goldens import beyond_goldens, bundle_goldens, compare_with_both
from qsens.device.open_engine import open_engine

SAMPLE = np.array([0.2, 0.4, 0.6, 0.8])


def beyond(dtype, sample=SAMPLE, *, promised=None, is_batched=True, can_batch=True):
    spec = InputSpec("x", sample.shape, dtype, is_batched)
    inputs = {"x": np.stack([sample, sample / 2]).astype(dtype)}
    ranges = Ranges("minmax", 1, "d", (TensorRange("x", 0.1, 1.0, 1.0),), promised or {})
    found = inputs_beyond(inputs, (spec,), ranges, can_batch=can_batch)
    return None if found is None else found["x"]


@pytest.mark.parametrize(
    ("dtype", "promised", "mirrored", "at_ends"),
    [
        ("float32", (0.0, 1.0), [0.8, 0.6, 0.4, 0.2], [0, 0, 1, 1]),
        ("float32", (-1.0, 1.0), [-0.2, -0.4, -0.6, -0.8], [-1, -1, 1, 1]),
        ("float32", None, [-0.2, -0.4, -0.6, -0.8], [-1.5, -1.5, 1.5, 1.5]),
        ("float16", (0.0, 1.0), [0.8, 0.6, 0.4, 0.2], [0, 0, 1, 1]),
    ],
)
def test_a_sample_is_mirrored_and_driven_to_the_ends(dtype, promised, mirrored, at_ends):
    found = beyond(dtype, promised={"x": promised} if promised else None)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, [mirrored, at_ends], atol=1e-3)


def test_levels_of_pictures_keep_their_type():
    found = beyond("uint8", np.array([0, 30, 200, 250]))
    np.testing.assert_array_equal(found, [[255, 225, 55, 5], [0, 0, 255, 255]])


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "int64"},
        {"dtype": "bool"},
        {"dtype": "float32", "sample": np.array([0.5])},
        {"dtype": "float32", "promised": {"x": (0.5, 0.5)}},
        {"dtype": "float32", "is_batched": False},
    ],
)
def test_labels_single_values_constants_and_what_a_batch_shares_stay(options):
    assert beyond(**options) is None


def test_what_one_sample_has_for_itself_is_changed():
    assert beyond("float32", is_batched=False, can_batch=False) is not None


@pytest.fixture(scope="module")
def far_bundle(reopened, tmp_path_factory):
    """INT8 everywhere, calibrated on values of 0 and more, of an input that may be -1 to 1."""
    wide = replace(reopened, ranges=replace(reopened.ranges, promised={"image": (-1.0, 1.0)}))
    out = tmp_path_factory.mktemp("far") / "bundle"
    options = ExportOptions(target_named("onnxruntime").target, out, takes_back_to_float=True)
    exported = export_bundle(wide, map_of_trial(reopened, 2), options)
    assert exported.compared.problems == ()
    return open_bundle(out)


def test_goldens_beyond_the_calibration_are_in_the_bundle(far_bundle):
    far = beyond_goldens(far_bundle)
    assert len(far) == far_bundle.beyond.samples == 2
    assert (far.inputs["image"].min(), far.inputs["image"].max()) == (-1.0, 1.0)
    assert (far_bundle.folder / BEYOND).stat().st_size < 2 * (
        far_bundle.folder / "goldens.npz"
    ).stat().st_size


def test_a_narrower_format_shows_on_them_and_on_nothing_else(far_bundle):
    engine = open_engine(far_bundle)
    goldens, far = bundle_goldens(far_bundle), beyond_goldens(far_bundle)

    def narrower(feed):
        return engine.run({"image": np.maximum(feed["image"], 0)})

    try:
        assert compare_with_both(engine.run, far_bundle, goldens, far).problems == ()
        found = compare_with_both(narrower, far_bundle, goldens, far)
    finally:
        engine.close()
    assert found.problems
    assert all(text.startswith("beyond the calibrated range, PSNR against") for text in found.problems)
    assert found.to_json()["beyond"]["exact_psnr_db"] < far_bundle.beyond.bounds.exact_psnr_db


def test_a_bundle_of_an_older_version_has_none(far_bundle):
    older = replace(far_bundle, beyond=None)
    assert beyond_goldens(older) is None
    run = lambda feed: {"picture": np.zeros((1, 3, 16, 16), np.float32)}  # noqa: E731 - an engine of one line
    assert compare_with_both(run, older, bundle_goldens(older), None).beyond is None

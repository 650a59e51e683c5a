from dataclasses import replace

import numpy as np
import pytest
from calibration_sets import IMAGE, LATENT, STYLE, opened, pixels, write_arrays, write_images
from PIL import Image

from qsens.calibration.manifest import SetFacts, write_manifest
from qsens.calibration.measure import promised_ranges
from qsens.calibration.splits import subset
from qsens.core.errors import DataError, SpecError
from qsens.core.interfaces import InputRule, InputSpec

MEL = InputSpec("mel", (1, 4), "float32", True)
FACE = InputSpec("face", (6, None, None), "float32", True)


# Images


def test_the_single_image_input_is_found(tmp_path):
    samples = opened(write_images(tmp_path, 3))
    assert len(samples) == 3
    assert samples.clusters is None
    got = samples.sample(1)["image"]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, pixels(seed=1).transpose(2, 0, 1) / np.float32(255))
    with pytest.raises(IndexError):
        samples.sample(3)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (InputRule(), (0.0, 1.0)),
        (InputRule(value_range=(-1, 1)), (-1, 1)),
        (InputRule(source="normal", resize=(4, 4)), None),
        (InputRule(source="uniform", value_range=(2, 3), resize=(4, 4)), (2, 3)),
        (InputRule(source="constant", value=(0.25,), resize=(4, 4)), (0.25, 0.25)),
    ],
)
def test_values_are_promised_by_the_rule_and_not_by_samples(tmp_path, rule, expected):
    folder = "noise" if rule.source != "image" else write_images(tmp_path, 3)
    samples = opened(folder, rules={"image": rule}, **({"count": 3} if folder == "noise" else {}))
    assert samples.value_ranges.get("image") == expected
    assert subset(samples, 2, 0).value_ranges == samples.value_ranges
    other = opened(write_images(tmp_path / "other", 2), rules={"image": InputRule(value_range=(0.5, 2))})
    wider = {} if expected is None else {"image": (min(expected[0], 0.5), max(expected[1], 2))}
    assert promised_ranges(samples, other) == wider


def test_arrays_of_files_promise_nothing(tmp_path):
    assert opened(write_arrays(tmp_path, 2), [MEL, FACE]).value_ranges == {}


def test_description_names_every_step(tmp_path):
    rule = InputRule(value_range=(-1, 1), colour_order="bgr", crop="center", resize=(4, 4))
    described = opened(write_images(tmp_path / "faces", 3), rules={"image": rule}).describe()
    assert described["source"] == "folder of images 'faces'"
    wanted = {"count": "3", "size": "4x4", "value range": "-1..1", "colour": "bgr", "crop": "center"}
    assert wanted.items() <= described.items()
    assert described["resize"] == "4x4, bicubic with antialias, float32"


@pytest.mark.parametrize(
    ("spec", "shape", "ends"),
    [
        (InputSpec("x", (1, None, None), "float32", True), (1, 6, 8), 1),
        (InputSpec("x", (None, 6, 8), "float16", True), (3, 6, 8), 1),
        (InputSpec("x", (1, 3, None, None), "float32", False), (1, 3, 6, 8), 1),
        (InputSpec("x", (3, None, None), "uint8", True), (3, 6, 8), 255),
    ],
)
def test_samples_have_the_shape_and_dtype_the_graph_wants(tmp_path, spec, shape, ends):
    got = opened(write_images(tmp_path, 1), [spec]).sample(0)["x"]
    assert got.shape == shape
    assert got.dtype == spec.dtype
    assert 0.8 * ends < got.max() <= ends


def test_other_inputs_are_fed_by_rules(tmp_path):
    rules = {"z": InputRule(source="normal"), "style": InputRule(source="constant", value=(0, 1, 0))}
    samples = opened(write_images(tmp_path, 2), [STYLE, IMAGE, LATENT], rules)
    got = samples.sample(0)
    assert got["style"].tolist() == [0, 1, 0]
    assert got["z"].shape == (4,)
    assert "constant" in samples.describe()["input style"]
    assert "seed 0" in samples.describe()["input z"]


def test_an_input_that_nothing_feeds_is_named(tmp_path):
    with pytest.raises(SpecError, match=r"'z' \(4\) float32") as caught:
        opened(write_images(tmp_path, 2), [IMAGE, LATENT])
    assert "normal" in caught.value.hint


def test_two_inputs_that_look_like_images_are_named(tmp_path):
    depth = InputSpec("depth", (1, None, None), "float32", True)
    write_images(tmp_path, 2)
    with pytest.raises(SpecError, match="'image' and 'depth'"):
        opened(tmp_path, [IMAGE, depth])
    with pytest.raises(SpecError, match="'image' and 'depth'"):
        opened(tmp_path, [IMAGE, depth], {"image": InputRule(), "depth": InputRule(colour_order="gray")})
    rules = {"depth": InputRule(source="constant", value=(0.5,), resize=(6, 8))}
    assert opened(tmp_path, [IMAGE, depth], rules).sample(0)["depth"].shape == (1, 6, 8)


def test_no_input_that_looks_like_an_image_is_an_error(tmp_path):
    with pytest.raises(SpecError, match=r"face \(6, \?, \?\)") as caught:
        opened(write_images(tmp_path, 2), [FACE])
    assert ".npz" in caught.value.hint


def test_mixed_sizes_are_found_when_the_set_is_opened(tmp_path):
    write_images(tmp_path, 2)
    Image.fromarray(pixels(9)).save(tmp_path / "z.png")
    with pytest.raises(DataError, match="different sizes"):
        opened(tmp_path)
    assert opened(tmp_path, rules={"*": InputRule(resize=(4, 4))}).sample(2)["image"].shape == (3, 4, 4)


def test_an_image_that_does_not_fit_a_fixed_input_names_the_size_and_the_option(tmp_path):
    spec = InputSpec("image", (3, 96, 96), "float32", True)
    with pytest.raises(DataError, match="6x8, but input 'image' takes 96x96") as caught:
        opened(write_images(tmp_path, 2), [spec])
    assert caught.value.hint == "add --resize 96x96"
    with pytest.raises(SpecError, match="64x64 does not fit"):
        opened(tmp_path, [spec], {"image": InputRule(resize=(64, 64))})


def test_a_file_that_is_no_image_is_found_when_the_set_is_opened(tmp_path):
    write_images(tmp_path, 2)
    (tmp_path / "x.jpg").write_text("no")
    for resize in (None, (4, 4)):
        with pytest.raises(DataError, match=r"x\.jpg"):
            opened(tmp_path, rules={"image": InputRule(resize=resize)})


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"imag": InputRule()}, "'imag'"),
        ({"image": InputRule(source="picture")}, "source is 'picture'"),
        ({"image": InputRule(source="array")}, "holds no arrays"),
        ({"image": InputRule(colour_order="rgba")}, "colour_order is 'rgba'"),
        ({"image": InputRule(colour_order="gray")}, "takes 3 channels"),
        ({"image": InputRule(crop="centre")}, "crop is 'centre'"),
        ({"image": InputRule(crop="center")}, "needs a size"),
        ({"image": InputRule(value_range=(1, 0))}, "value_range is 1..0"),
        ({"image": InputRule(resize=(0, 4))}, "resize is 0x4"),
        ({"image": InputRule(source="constant")}, "without a value"),
    ],
)
def test_rules_that_cannot_be_used_are_refused_with_the_value(tmp_path, rules, message):
    with pytest.raises(SpecError, match=message):
        opened(write_images(tmp_path, 2), rules=rules)


def test_the_digest_covers_bytes_rules_and_order_but_not_names(tmp_path):
    write_images(tmp_path / "a", 3)
    first = opened(tmp_path / "a").digest
    write_images(tmp_path / "b", 3)
    (tmp_path / "b" / "000.png").rename(tmp_path / "b" / "000x.png")
    assert opened(tmp_path / "b").digest == first
    (tmp_path / "b" / "000x.png").rename(tmp_path / "b" / "zzz.png")
    digests = {first, opened(tmp_path / "b").digest}
    assert opened(tmp_path / "a", rules={"image": InputRule(value_range=(0, 1))}).digest == first
    rule = InputRule()
    changes = [{"value_range": (-1, 1)}, {"colour_order": "bgr"}, {"resize": (4, 4)}]
    changes.append({"resize": (4, 4), "crop": "center"})
    digests |= {opened(tmp_path / "a", rules={"image": replace(rule, **change)}).digest for change in changes}
    Image.fromarray(pixels(seed=99)).save(tmp_path / "a" / "000.png")
    digests.add(opened(tmp_path / "a").digest)
    assert len(digests) == 7


def test_count_takes_a_seeded_choice(tmp_path):
    write_images(tmp_path, 10)
    few, same, other = (opened(tmp_path, count=4, seed=seed) for seed in (1, 1, 2))
    assert len(few) == 4
    assert few.digest == same.digest != other.digest
    assert few.describe()["count"].startswith("4 of 10")
    with pytest.raises(DataError, match="11 samples asked for"):
        opened(tmp_path, count=11)
    with pytest.raises(SpecError):
        opened(tmp_path, count=0)


# Manifests


def test_a_manifest_supplies_what_rules_leave_open(tmp_path):
    folder = write_images(tmp_path / "faces", 4)
    facts = SetFacts(
        licence="CC0-1.0",
        origin="drawn here",
        colour_order="bgr",
        value_range=(-1.0, 1.0),
        clip_pattern="00([0-9])",
    )
    write_manifest(folder, facts)
    samples = opened(folder)
    described = samples.describe()
    wanted = {"value range": "-1..1", "colour": "bgr", "licence": "CC0-1.0", "origin": "drawn here"}
    assert wanted.items() <= described.items()
    assert samples.clusters == ("0", "1", "2", "3")
    assert opened(folder, rules={"image": InputRule()}).describe()["value range"] == "0..1"
    loose = opened(folder, rules={"*": InputRule(resize=(4, 4))}).describe()
    assert (loose["value range"], loose["size"]) == ("-1..1", "4x4")
    explicit = opened(folder, rules={"*": InputRule(value_range=(0.0, 255.0))}).describe()
    assert explicit["value range"] == "0..255"


def test_a_set_that_differs_from_its_manifest_is_refused(tmp_path):
    folder = write_images(tmp_path, 2)
    write_manifest(folder, SetFacts(licence="CC0-1.0", origin="drawn here"))
    opened(folder)
    Image.fromarray(pixels(seed=50)).save(folder / "001.png")
    with pytest.raises(DataError, match=r"001\.png"):
        opened(folder)


# Arrays


def test_arrays_feed_inputs_by_name(tmp_path):
    samples = opened(write_arrays(tmp_path, 3), [MEL, FACE])
    got = samples.sample(2)
    assert set(got) == {"mel", "face"}
    assert (got["face"] == 2).all()
    assert samples.clusters is None


def test_arrays_are_converted_within_their_kind(tmp_path):
    index = InputSpec("index", (), "int32", True)
    write_arrays(tmp_path, 1, index=lambda _: np.int64(7), mel=lambda _: np.ones((1, 4), np.float64))
    got = opened(tmp_path, [MEL, FACE, index]).sample(0)
    assert (got["mel"].dtype, got["index"].dtype, int(got["index"])) == (np.float32, np.int32, 7)


def test_inputs_without_an_array_take_a_rule(tmp_path):
    rules = {"z": InputRule(source="uniform", value_range=(2, 3))}
    got = opened(write_arrays(tmp_path, 2), [MEL, FACE, LATENT], rules).sample(0)
    assert ((got["z"] >= 2) & (got["z"] <= 3)).all()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("mel", lambda _: np.ones((1, 5), np.float32), ["'mel' is (1, 5) float32", "wants (1, 4) float32"]),
        ("mel", lambda _: np.ones((1, 1, 4), np.float32), ["(1, 1, 4)", "without the batch axis"]),
        ("mel", lambda _: np.ones((1, 4), np.uint8), ["uint8", "save it as float32"]),
        ("face", lambda _: np.ones((6, 5), np.float32), ["'face' is (6, 5)", "(6, ?, ?)"]),
        ("facee", lambda _: np.ones(3), ["unexpected array 'facee'", "mel, face"]),
        ("clip", lambda _: np.ones(3), ["'clip'", "one string"]),
    ],
)
def test_arrays_that_do_not_fit_are_named_when_the_set_is_opened(tmp_path, key, value, words):
    with pytest.raises(DataError) as caught:
        opened(write_arrays(tmp_path, 2, **{key: value}), [MEL, FACE])
    shown = f"{caught.value.message} {caught.value.hint}"
    assert all(word in shown for word in [*words, "000.npz"]), shown


def test_a_missing_array_is_named_with_what_there_is(tmp_path):
    with pytest.raises(DataError, match=r"no array 'z'; it holds mel, face"):
        opened(write_arrays(tmp_path, 2), [MEL, FACE, LATENT])


@pytest.mark.parametrize(("value", "message"), [(np.nan, "NaN or infinity"), (1e39, "cannot")])
def test_values_that_cannot_be_used_are_found_when_read(tmp_path, value, message):
    samples = opened(write_arrays(tmp_path, 2, mel=lambda _: np.full((1, 4), value)), [MEL, FACE])
    with pytest.raises(DataError, match=message):
        samples.sample(0)


def test_damaged_and_pickled_files_are_refused(tmp_path):
    write_arrays(tmp_path, 3)
    content = (tmp_path / "001.npz").read_bytes()
    (tmp_path / "001.npz").write_bytes(content[:200])
    with pytest.raises(DataError, match=r"001\.npz"):
        opened(tmp_path, [MEL, FACE])
    np.savez(
        tmp_path / "001.npz", mel=np.array([{"a": 1}], dtype=object), face=np.ones((6, 5, 5), np.float32)
    )
    with pytest.raises(DataError, match=r"001\.npz"):
        opened(tmp_path, [MEL, FACE])


def test_clips_of_array_files_become_clusters(tmp_path):
    write_arrays(tmp_path / "all", 4, clip=lambda index: np.array(f"talk{index // 2}"))
    assert opened(tmp_path / "all", [MEL, FACE]).clusters == ("talk0", "talk0", "talk1", "talk1")
    write_arrays(tmp_path / "some", 2, clip=lambda index: np.array("talk"))
    np.savez(
        tmp_path / "some" / "000.npz", mel=np.ones((1, 4), np.float32), face=np.ones((6, 5, 5), np.float32)
    )
    with pytest.raises(DataError, match=r"000\.npz states no clip"):
        opened(tmp_path / "some", [MEL, FACE])


def test_images_and_arrays_in_one_folder_are_refused(tmp_path):
    write_arrays(tmp_path, 1)
    write_images(tmp_path, 1)
    with pytest.raises(DataError, match=r"images \(000.png\) and arrays \(000.npz\)"):
        opened(tmp_path)


def test_an_empty_or_missing_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="nothing to read"):
        opened(tmp_path)
    with pytest.raises(DataError, match="absent"):
        opened(tmp_path / "absent")

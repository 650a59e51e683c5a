import numpy as np
import pytest
from PIL import Image

from qsens.calibration.images import (
    common_size,
    fit_image,
    list_images,
    prepare_image,
    read_image,
    read_image_size,
)
from qsens.core.errors import DataError
from qsens.core.interfaces import InputRule


def pixels(height=6, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height=32, width=48):
    row, column = np.mgrid[0:height, 0:width]
    return np.stack([row * 4, column * 4, row + column], axis=2).astype(np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.Webp"])
def test_lossless_files_come_back_exactly(tmp_path, name):
    image = pixels()
    Image.fromarray(image).save(tmp_path / name, lossless=True)
    got = read_image(tmp_path / name)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, image)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG"])
def test_jpeg_files_come_back_nearly(tmp_path, name):
    Image.fromarray(smooth()).save(tmp_path / name, quality=95, subsampling=0)
    assert np.abs(read_image(tmp_path / name).astype(int) - smooth()).mean() < 2.0


def test_gray_is_repeated_to_three_channels(tmp_path):
    gray = pixels()[:, :, 0]
    Image.fromarray(gray).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.stack([gray] * 3, axis=2))


def test_sixteen_bit_gray_is_rounded_to_eight(tmp_path):
    Image.fromarray(np.array([[0, 257, 400, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 1, 2, 255]


def test_transparency_is_composited_over_white(tmp_path):
    image = np.zeros((1, 3, 4), dtype=np.uint8)
    image[0, :, 0] = 200
    image[0, :, 3] = (255, 0, 51)
    Image.fromarray(image).save(tmp_path / "a.png")
    # 51 / 255 = 0.2: red 0.2 * 200 + 0.8 * 255 = 244, the others 204.
    assert read_image(tmp_path / "a.png")[0].tolist() == [[200, 0, 0], [255, 255, 255], [244, 204, 204]]


def test_palettes_become_colours(tmp_path):
    image = np.repeat(np.array([[[10, 20, 30], [200, 100, 0]]], dtype=np.uint8), 4, axis=0)
    Image.fromarray(image).quantize(4).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image)


def test_exif_orientation_is_applied_to_pixels_and_size(tmp_path):
    image = smooth(16, 32)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    assert read_image_size(tmp_path / "a.png") == (32, 16)
    # 6 means: turn 90 degrees clockwise to see it upright.
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(image, -1))


def test_a_truncated_or_foreign_file_is_named(tmp_path):
    Image.fromarray(smooth()).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("not an image")
    Image.fromarray(smooth()).save(tmp_path / "gif.png", format="GIF")
    for name in ("cut.png", "text.jpg", "gif.png"):
        with pytest.raises(DataError, match=name):
            read_image(tmp_path / name)


def test_an_animation_is_refused(tmp_path):
    frames = [Image.fromarray(pixels(seed=seed)) for seed in range(3)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    with pytest.raises(DataError, match="3 frames"):
        read_image(tmp_path / "a.webp")


def test_listing_is_sorted_and_takes_images_of_one_level(tmp_path):
    (tmp_path / "deeper").mkdir()
    for name in ("b.PNG", "a.webp", "c.JpEg", "d.jpg", "notes.txt", ".hidden.png", "deeper/e.png"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["a.webp", "b.PNG", "c.JpEg", "d.jpg"]


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    (tmp_path / "frames").mkdir()
    with pytest.raises(DataError) as caught:
        list_images(tmp_path)
    assert str(tmp_path) in caught.value.message
    assert ".png" in caught.value.hint
    assert "'frames'" in caught.value.hint


def test_a_folder_that_is_none_is_named(tmp_path):
    (tmp_path / "file.png").touch()
    with pytest.raises(DataError, match="absent"):
        list_images(tmp_path / "absent")
    with pytest.raises(DataError, match="is a file"):
        list_images(tmp_path / "file.png")


def test_mixed_sizes_name_two_files_and_the_option(tmp_path):
    for name, height in (("a.png", 6), ("b.png", 6), ("c.png", 7)):
        Image.fromarray(pixels(height)).save(tmp_path / name)
    assert common_size([tmp_path / "a.png", tmp_path / "b.png"]) == (6, 8)
    with pytest.raises(DataError) as caught:
        common_size(list_images(tmp_path))
    assert "a.png is 6x8, c.png is 7x8" in caught.value.message
    assert "--resize HxW" in caught.value.hint


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_the_value_range_is_reached_exactly(ends):
    image = np.array([[[0, 0, 0], [255, 255, 255]]], dtype=np.uint8)
    prepared = prepare_image(image, InputRule(value_range=ends))
    assert prepared.dtype == np.float32
    assert prepared.shape == (3, 1, 2)
    assert prepared[0, 0].tolist() == list(ends)


def test_colour_orders():
    image = pixels()
    rgb = prepare_image(image, InputRule(value_range=(0, 255)))
    bgr = prepare_image(image, InputRule(value_range=(0, 255), colour_order="bgr"))
    gray = prepare_image(image, InputRule(value_range=(0, 255), colour_order="gray"))
    np.testing.assert_array_equal(rgb, image.transpose(2, 0, 1))
    np.testing.assert_array_equal(bgr, rgb[::-1])
    assert gray.shape == (1, 6, 8)
    np.testing.assert_allclose(gray[0], np.asarray(Image.fromarray(image).convert("L")), atol=0.51)


def test_an_image_of_the_wanted_size_is_left_alone():
    image = pixels()
    np.testing.assert_array_equal(fit_image(image, "none", (6, 8)), image)
    np.testing.assert_array_equal(fit_image(image, "none", None), image)


def test_resizing_averages_what_it_shrinks():
    checkers = np.zeros((64, 64, 3), dtype=np.uint8)
    checkers[::2, ::2] = checkers[1::2, 1::2] = 255
    small = fit_image(checkers, "none", (8, 8))
    # Without antialias the result would be black or white.
    np.testing.assert_allclose(small[1:-1, 1:-1], 127.5, atol=0.5)
    assert small.dtype == np.float32


def test_resizing_a_ramp_keeps_its_slope():
    ramp = np.repeat(np.tile(np.arange(0, 64, dtype=np.uint8)[None, :, None], (8, 1, 1)), 3, axis=2)
    small = fit_image(ramp, "none", (8, 16))
    np.testing.assert_allclose(small[0, 2:-2, 0], 1.5 + 4 * np.arange(16)[2:-2], atol=1e-3)


def test_a_centred_crop_takes_the_largest_rectangle_of_the_target_shape():
    image = np.zeros((10, 30, 3), dtype=np.uint8)
    image[:, 10:20] = 100
    np.testing.assert_array_equal(fit_image(image, "center", (5, 5)), 100.0)
    assert fit_image(image, "none", (5, 5)).min() < 1
    np.testing.assert_array_equal(fit_image(image.transpose(1, 0, 2), "center", (20, 20)), 100.0)


def write_images(folder, count, height=6):
    for index in range(count):
        Image.fromarray(pixels(height, seed=index)).save(folder / f"{index:03d}.png")

"""Bad input: images, arrays, and the weights of extractors."""

from bad_case import Bad, case, swept
from PIL import Image
from tiny_models import normal
from tiny_runs import qsens, write_arrays, write_images


@case
def missing_image_folder(bench):
    return Bad(swept(bench, calibration="absent"), "absent", "check the path")


@case
def empty_image_folder(bench):
    (bench.folder / "empty").mkdir()
    return Bad(swept(bench, calibration="empty"), "empty", "looked for .jpeg, .jpg, .png, .webp, .npz")


@case
def images_one_folder_deeper(bench):
    write_images(bench.folder / "photos" / "train")
    return Bad(swept(bench, calibration="photos"), "photos", "subfolders such as 'train' are not read")


@case
def mixed_size_images(bench):
    write_images(bench.folder / "mixed", 3)
    Image.new("RGB", (24, 16)).save(bench.folder / "mixed" / "wide.png")
    return Bad(swept(bench, calibration="mixed"), "wide.png is 16x24", "--resize HxW")


@case
def images_of_another_size(bench):
    write_images(bench.folder / "large", 3, side=32)
    return Bad(swept(bench, calibration="large"), "32x32", "--resize 16x16")


@case
def text_named_as_an_image(bench):
    write_images(bench.folder / "photos", 3)
    (bench.folder / "photos" / "notes.png").write_text("not an image")
    return Bad(swept(bench, calibration="photos"), "notes.png", "remove it from the folder")


@case
def single_image(bench):
    write_images(bench.folder / "one", 1)
    return Bad(swept(bench, calibration="one"), "'one' holds 1 samples", "at least 3")


@case
def changed_set_with_a_manifest(bench):
    write_images(bench.folder / "photos", 3)
    assert qsens("calibration", "add", "photos", "--licence", "CC0-1.0", "--origin", "a test").exit_code == 0
    write_images(bench.folder / "photos", 3, seed=1)
    return Bad(swept(bench, calibration="photos"), "photo-000.png", "")


@case
def array_of_the_wrong_shape(bench):
    write_arrays(bench.folder / "arrays", [{"image": normal(3, 8, 16)}] * 3)
    value = "array 'image' is (3, 8, 16) float32, the graph wants"
    return Bad(swept(bench, calibration="arrays"), value, "check how it was saved")


@case
def array_with_a_batch_axis(bench):
    write_arrays(bench.folder / "arrays", [{"image": normal(1, 3, 16, 16)}] * 3)
    return Bad(swept(bench, calibration="arrays"), "(1, 3, 16, 16)", "without the batch axis")


@case
def array_under_another_key(bench):
    write_arrays(bench.folder / "arrays", [{"picture": normal(3, 16, 16)}] * 3)
    value = "no array 'image'; it holds picture"
    return Bad(swept(bench, calibration="arrays"), value, "under that key")


@case
def missing_reference_folder(bench):
    arguments = swept(bench, "--reference", "real", "--metric", "fid", "--extractor", "lite0")
    return Bad(arguments, "real", "check the path")


@case
def metric_without_its_reference(bench):
    return Bad(swept(bench, "--metric", "fid", "--extractor", "lite0"), "'fid'", "--reference", exit_code=2)


@case
def inception_without_its_weights(bench):
    arguments = swept(bench, "--metric", "fid-fp32", "--extractor", "inception")
    where = bench.folder / "torch" / "hub" / "checkpoints" / "pt_inception-2015-12-05-6726825d.pth"
    return Bad(
        arguments, "cannot download", f"at {where} or name it with --inception-weights; --extractor lite0"
    )


@case
def inception_weights_that_are_not_there(bench):
    arguments = swept(
        bench, "--metric", "fid-fp32", "--inception-weights", "weights.pth", "--extractor", "inception"
    )
    return Bad(arguments, "weights.pth", "--extractor lite0")


@case
def inception_weights_that_are_something_else(bench):
    (bench.folder / "weights.pth").write_bytes(b"something else")
    arguments = swept(
        bench, "--metric", "fid-fp32", "--inception-weights", "weights.pth", "--extractor", "inception"
    )
    return Bad(arguments, "expected 6726825d", "--extractor lite0")

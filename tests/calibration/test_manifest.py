import hashlib
import threading
import tomllib

import numpy as np
import pytest
import tomli_w
from calibration_sets import pixels, write_arrays, write_images
from PIL import Image

from qsens.calibration import manifest
from qsens.calibration.files import list_set_files
from qsens.calibration.manifest import SetFacts, check_manifest, read_manifest, write_manifest
from qsens.core.errors import DataError, SpecError

FACTS = SetFacts(licence="CC0-1.0", origin="drawn by the tests")


@pytest.fixture
def described(tmp_path):
    folder = write_images(tmp_path / "faces", 3)
    write_manifest(folder, FACTS)
    return folder


def rewrite(folder, change):
    path = folder / "manifest.toml"
    values = tomllib.loads(path.read_text())
    change(values)
    path.write_text(tomli_w.dumps(values))


def check(folder):
    check_manifest(list_set_files(folder), read_manifest(folder))


def test_a_manifest_round_trips(tmp_path):
    folder = write_images(tmp_path / "faces", 3)
    facts = SetFacts("MIT", "here", "people", "bgr", (-1.0, 1.0), r"(\d+)\.png")
    written = write_manifest(folder, facts)
    assert read_manifest(folder) == written
    assert (written.name, written.count, written.size) == ("people", 3, (6, 8))
    assert (written.colour_order, written.value_range) == ("bgr", (-1.0, 1.0))
    assert written.clips == ("000", "001", "002")
    check(folder)


def test_checksums_are_those_of_sha256sum(described):
    manifest = read_manifest(described)
    lines = ""
    for file in manifest.files:
        assert file.sha256 == hashlib.sha256((described / file.name).read_bytes()).hexdigest()
        lines += f"{file.sha256}  {file.name}\n"
    assert manifest.sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_a_folder_without_a_manifest_has_none(tmp_path):
    assert read_manifest(tmp_path) is None


def test_mixed_sizes_leave_the_size_out(described):
    Image.fromarray(pixels(9)).save(described / "z.png")
    assert write_manifest(described, SetFacts()).size is None


def test_arrays_are_described_without_colour(tmp_path):
    manifest = write_manifest(write_arrays(tmp_path, 2), FACTS)
    assert (manifest.count, manifest.size, manifest.colour_order, manifest.value_range) == (
        2,
        None,
        None,
        None,
    )
    assert read_manifest(tmp_path) == manifest


def test_writing_again_keeps_what_is_not_stated_and_never_touches_the_images(tmp_path):
    folder = write_images(tmp_path, 2)
    write_manifest(folder, SetFacts("MIT", "here", "people", "bgr", (-1.0, 1.0), r"(\d+)"))
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("*.png")}
    (folder / "001.png").unlink()
    updated = write_manifest(folder, SetFacts(licence="CC-BY-4.0"))
    assert (updated.licence, updated.origin, updated.name) == ("CC-BY-4.0", "here", "people")
    assert (updated.count, updated.colour_order, updated.value_range) == (1, "bgr", (-1.0, 1.0))
    assert updated.clips == ("000",)
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("*.png")}
    assert after == {"000.png": before["000.png"]}


@pytest.mark.parametrize(
    ("facts", "option"), [(SetFacts(origin="x"), "licence"), (SetFacts("MIT"), "origin")]
)
def test_licence_and_origin_must_be_stated_once(tmp_path, facts, option):
    with pytest.raises(SpecError, match=f"no {option}") as caught:
        write_manifest(write_images(tmp_path, 1), facts)
    assert f"--{option}" in caught.value.hint
    assert not (tmp_path / "manifest.toml").exists()


@pytest.mark.parametrize("pattern", ["(", "frame", "x([0-9]+)"])
def test_a_clip_pattern_that_does_not_fit_is_refused(tmp_path, pattern):
    with pytest.raises(SpecError, match="clip pattern"):
        write_manifest(write_images(tmp_path, 1), SetFacts("MIT", "here", clip_pattern=pattern))


def test_a_value_range_the_wrong_way_round_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"value_range is 1\.\.0"):
        write_manifest(write_images(tmp_path, 1), SetFacts("MIT", "here", value_range=(1.0, 0.0)))


def test_a_damaged_file_is_found_when_the_manifest_is_written(tmp_path):
    folder = write_images(tmp_path / "images", 2, 64, 64)
    content = (folder / "001.png").read_bytes()
    (folder / "001.png").write_bytes(content[:-600])
    with pytest.raises(DataError, match=r"001\.png"):
        write_manifest(folder, FACTS)
    folder = write_arrays(tmp_path / "arrays", 2)
    content = bytearray((folder / "001.npz").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (folder / "001.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"001\.npz"):
        write_manifest(folder, FACTS)


def test_every_difference_names_the_file(described):
    image = (described / "001.png").read_bytes()
    Image.fromarray(pixels(seed=77)).save(described / "001.png")
    with pytest.raises(DataError, match=r"001\.png has another sha256"):
        check(described)
    (described / "001.png").unlink()
    with pytest.raises(DataError, match=r"001\.png is missing"):
        check(described)
    (described / "001.png").write_bytes(image)
    (described / "new.png").write_bytes(image)
    with pytest.raises(DataError, match=r"new\.png is not in the manifest") as caught:
        check(described)
    assert "qsens calibration add" in caught.value.hint
    (described / "000.png").unlink()
    with pytest.raises(DataError, match="and 1 more"):
        check(described)


def drop(key):
    return lambda values: values.pop(key)


def put(key, value):
    return lambda values: values.__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *[
            (drop(key), f"'{key}' is missing")
            for key in (
                "name",
                "count",
                "licence",
                "origin",
                "sha256",
                "files",
                "colour_order",
                "value_range",
            )
        ],
        (put("licnce", "MIT"), "no key named 'licnce'"),
        (put("count", 4), "count is 4, but 3 files"),
        (put("count", "3"), "'count' is '3'"),
        (put("value_range", [1, 0]), r"value_range is 1\.\.0"),
        (put("value_range", [0]), "'value_range'"),
        (put("colour_order", "cmyk"), "'colour_order' is 'cmyk'"),
        (put("size", [6]), "'size'"),
        (put("sha256", "0" * 64), "'sha256' does not match"),
        (lambda values: values["files"][1].pop("sha256"), r"files\.1\.sha256' is missing"),
        (lambda values: values["files"][1].__setitem__("name", "../x.png"), r"files\.1\.name"),
        (lambda values: values["files"][1].__setitem__("shape", 3), r"files\.1\.shape"),
        (lambda values: values["files"][1].__setitem__("name", "000.png"), r"'000\.png' is listed twice"),
        (lambda values: values["files"][1].__setitem__("clip", "a"), r"'000\.png' has no clip"),
        (lambda values: values["files"][1].__setitem__("sha256", "1" * 64), "'sha256' does not match"),
    ],
)
def test_a_manifest_that_is_wrong_names_the_key(described, change, message):
    rewrite(described, change)
    with pytest.raises(DataError, match=message) as caught:
        read_manifest(described)
    assert "manifest.toml" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe"])
def test_a_manifest_that_is_not_toml_is_named(described, content):
    (described / "manifest.toml").write_bytes(content)
    with pytest.raises(DataError, match=r"manifest\.toml"):
        read_manifest(described)


def test_the_manifest_of_a_written_npz_stays_valid_after_numpy_reads_it(tmp_path):
    folder = write_arrays(tmp_path, 1)
    write_manifest(folder, FACTS)
    with np.load(folder / "000.npz") as arrays:
        assert set(arrays) == {"mel", "face"}
    check(folder)


def test_two_that_write_a_manifest_at_once_keep_what_both_state(described, monkeypatch):
    read_all = manifest._size_after_reading
    second = threading.Thread(target=write_manifest, args=(described, SetFacts(name="people")))

    def read_while_another_comes(*arguments):
        monkeypatch.setattr(manifest, "_size_after_reading", read_all)
        second.start()
        second.join(0.3)  # ends in that time where nothing makes it wait
        return read_all(*arguments)

    monkeypatch.setattr(manifest, "_size_after_reading", read_while_another_comes)
    write_manifest(described, SetFacts(licence="MIT"))
    second.join()
    written = read_manifest(described)
    assert (written.name, written.licence) == ("people", "MIT")
    assert not list(described.glob(".*"))

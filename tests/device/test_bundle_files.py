"""Checksums name every file that is not as exported; `bundle.json` is read strictly."""

import json
import shutil
import subprocess

import pytest

from qsens.device.bundle_files import CHECKSUMS, DOCUMENT, check_files, read_bundle, write_checksums
from qsens.device.errors import DeviceError

DOCUMENT_VALUES = {
    "schema_version": 1,
    "runtime": "onnxruntime",
    "flavour": "u8",
    "batch": 2,
    "inputs": [
        {"name": "image", "dtype": "float32", "shape": [3, 4, 4], "is_batched": True},
        {"name": "style", "dtype": "float32", "shape": [5], "is_batched": False},
    ],
    "outputs": ["picture"],
    "picture": {"output": "picture", "value_range": [-1, 1], "colour_order": "rgb"},
    "layers": [{"layer": "enc.0", "node": "/enc/Conv", "requested": "int8", "expected": "fp32"}],
    "float_pins": [["/enc/Conv", "fp16"]],
    "goldens": {"bounds": {"fp32_psnr_db": 30.5, "exact_psnr_db": 27}},
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "qsens" / "device").mkdir(parents=True)
    (tmp_path / DOCUMENT).write_text(json.dumps(DOCUMENT_VALUES))
    (tmp_path / "model.onnx").write_bytes(bytes(range(256)) * 10)
    (tmp_path / "qsens" / "device" / "main.py").write_text("# a file with a name\n")
    write_checksums(tmp_path)
    return tmp_path


def flip(path, place=100):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def drop_last_line(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def test_an_untouched_folder_passes_and_its_files_are_counted(folder):
    assert check_files(folder) == 3


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum on this machine")
def test_the_checksums_are_those_of_sha256sum(folder):
    done = subprocess.run(["sha256sum", "--check", CHECKSUMS], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: flip(folder / "model.onnx"), "damaged: model.onnx"),
        (lambda folder: truncate(folder / "model.onnx"), "damaged: model.onnx"),
        (lambda folder: (folder / "model.onnx").write_bytes(b""), "damaged: model.onnx"),
        (lambda folder: flip(folder / DOCUMENT), "damaged: bundle.json"),
        (lambda folder: (folder / "model.onnx").unlink(), "missing: model.onnx"),
        (lambda folder: (folder / "qsens/device/main.py").unlink(), "missing: qsens/device/main.py"),
        (lambda folder: (folder / "more.onnx").write_text(""), "not part of the bundle: more.onnx"),
        (lambda folder: (folder / "link").symlink_to(folder), "not part of the bundle: link"),
        (lambda folder: drop_last_line(folder / CHECKSUMS), "not part of the bundle: qsens/device/main.py"),
        (lambda folder: (folder / CHECKSUMS).write_text("no sum\n"), "damaged: line 1 of SHA256SUMS"),
        (lambda folder: (folder / CHECKSUMS).unlink(), "cannot read"),
    ],
)
def test_what_is_not_as_exported_is_refused_by_name(folder, damage, message):
    damage(folder)
    with pytest.raises(DeviceError, match=message.replace(".", r"\.")) as caught:
        check_files(folder)
    assert caught.value.exit_code == 1
    assert caught.value.hint


def test_a_checksum_of_a_file_outside_is_not_followed(folder):
    text = (folder / CHECKSUMS).read_text()
    (folder / CHECKSUMS).write_text(f"{'0' * 64}  ../secret\n{text}")
    with pytest.raises(DeviceError, match=r"missing: \.\./secret"):
        check_files(folder)


def test_what_a_bundle_asks_is_read(folder):
    bundle = read_bundle(folder)
    assert bundle.batch == 2
    assert bundle.input_shapes == {"image": (2, 3, 4, 4), "style": (5,)}
    assert bundle.value_range == (-1.0, 1.0)
    assert (bundle.asked[0].layer, bundle.asked[0].node) == ("enc.0", "/enc/Conv")
    assert (bundle.asked[0].requested, bundle.asked[0].expected) == ("int8", "fp32")
    assert bundle.float_pins == (("/enc/Conv", "fp16"),)
    assert (bundle.bounds.fp32_psnr_db, bundle.bounds.exact_psnr_db) == (30.5, 27.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.pop("layers"), "'layers' is missing"),
        (lambda values: values.update(batch=0), "'batch' is 0"),
        (lambda values: values["layers"][0].update(expected="int4"), "no precision named 'int4'"),
        (lambda values: values.update(schema_version=2), "schema version 2"),
        (lambda values: values["picture"].update(value_range=[0]), "values to unpack"),
    ],
)
def test_a_wrong_document_is_refused_with_the_key(folder, change, message):
    values = json.loads(json.dumps(DOCUMENT_VALUES))
    change(values)
    (folder / DOCUMENT).write_text(json.dumps(values))
    with pytest.raises(DeviceError, match=message):
        read_bundle(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_document_that_is_none_is_refused(folder, text):
    (folder / DOCUMENT).write_text(text)
    with pytest.raises(DeviceError, match=DOCUMENT):
        read_bundle(folder)


def test_another_folder_is_no_bundle(tmp_path):
    with pytest.raises(DeviceError, match="is not a bundle"):
        read_bundle(tmp_path)

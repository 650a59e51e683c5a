"""Sets that were made to hang, to fill the memory or to end in a traceback are refused in words."""

import hashlib
import os
import socket
import struct
import zipfile
import zlib

import numpy as np
import pytest
from calibration_sets import opened
from PIL import Image

from qsens.calibration.images import read_image, read_image_size
from qsens.calibration.manifest import MANIFEST_NAME, SetFacts, read_manifest, write_manifest
from qsens.calibration.real_images import open_real_images
from qsens.core.errors import DataError


def refused(call, *parts):
    with pytest.raises(DataError) as raised:
        call()
    for part in parts:
        assert part in f"{raised.value.message} {raised.value.hint}"
    assert "\n" not in raised.value.message


def png_of(width, height):
    """A PNG of a few bytes whose header states that size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("width", "height", "text"),
    [
        (13_000, 13_000, "13000x13000, 169 megapixels"),
        (9_000, 9_000, "9000x9000, 81 megapixels"),
        (60_000, 60_000, "a picture of more than 178 megapixels"),
        (2**31 - 1, 2**31 - 1, "a picture of more than 178 megapixels"),
    ],
)
@pytest.mark.parametrize("read", [read_image, read_image_size])
def test_large_pictures_are_refused_by_their_header(read, width, height, text, tmp_path, recwarn):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of(width, height))
    refused(lambda: read(path), str(path), text)
    assert not recwarn.list


def test_the_limit_of_pictures_can_be_set(tmp_path):
    Image.new("L", (1500, 1000)).save(tmp_path / "large.png")
    refused(lambda: read_image(tmp_path / "large.png", 1), "1000x1500, 2 megapixels", "--largest-picture")
    assert read_image(tmp_path / "large.png", 2).shape == (1000, 1500, 3)


def test_references_know_the_limit_of_pictures_too(tmp_path):
    Image.new("L", (1500, 1000)).save(tmp_path / "large.png")
    images = open_real_images(tmp_path, largest_megapixels=1)
    refused(lambda: images.image(0), "large.png is 1000x1500")


def make_special(path, kind):
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        path.symlink_to("absent")


SPECIAL = ["a pipe", "a device", "a socket", "a link to nothing"]


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", ["b.png", "b.npz"])
def test_what_is_no_file_is_refused_in_a_set(kind, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    folder = tmp_path / "set"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    make_special(folder / name, kind)
    refused(lambda: opened(folder), f"{name} is {kind}", "remove it")


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("use", [opened, open_real_images, lambda folder: write_manifest(folder, SetFacts())])
def test_what_is_no_folder_is_refused_as_a_set(use, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_special(tmp_path / "set", kind)
    refused(lambda: use(tmp_path / "set"), f"cannot list folder {tmp_path / 'set'}")


@pytest.mark.parametrize("kind", SPECIAL[:2])
def test_a_manifest_that_is_no_file_is_refused(kind, tmp_path):
    make_special(tmp_path / MANIFEST_NAME, kind)
    refused(lambda: read_manifest(tmp_path), f"{MANIFEST_NAME} is {kind}")


def write_npz(path, header, *, stated=None, data=b""):
    """An archive of one array with that header."""
    body = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header.encode() + b"\n" + data
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", body)
    return path


HEADERS = {
    "terabytes": "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1048576, 1048576), }",
    "negative": "{'descr': '<f4', 'fortran_order': False, 'shape': (3, -8, 8), }",
    "overflow": "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4294967296, 4294967296), }",
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (3, 8, 8), }",
    "short": "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 8, 8), }",
    "5000 digits": "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 5000 + ",), }",
    "nested": "{'descr': " + "(" * 3000 + ")" * 3000 + ", 'fortran_order': False, 'shape': (1,), }",
}


@pytest.mark.parametrize("name", HEADERS)
def test_arrays_whose_header_lies(name, tmp_path):
    write_npz(tmp_path / "sample.npz", HEADERS[name])
    refused(lambda: opened(tmp_path).sample(0), "sample.npz")


def test_an_array_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path):
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 16384, 32768), }"
    write_npz(tmp_path / "sample.npz", header, data=bytes(1000))
    refused(lambda: opened(tmp_path).sample(0), "sample.npz: it would unpack to 6,442,")


def test_a_good_array_is_read(tmp_path):
    np.savez_compressed(tmp_path / "sample.npz", image=np.ones((3, 8, 8), np.float32))
    assert opened(tmp_path).sample(0)["image"].shape == (3, 8, 8)


MANIFEST = """name = "n"
count = 1
licence = "CC0-1.0"
origin = "o"
colour_order = "rgb"
value_range = {}
sha256 = "{}"
files = [{{ name = "a.png", sha256 = "{}" }}]
"""


@pytest.mark.parametrize(
    "text",
    [
        "[0.0, nan]",
        "[-inf, inf]",
        "[0.0, inf]",
        "[1, 0]",
        "[0, 0]",
        "[-1e300, 1e300]",
        "[0, 1" + "0" * 5000 + "]",
    ],
)
def test_ranges_that_are_none(text, tmp_path):
    overall = hashlib.sha256(f"{'0' * 64}  a.png\n".encode()).hexdigest()
    (tmp_path / MANIFEST_NAME).write_text(MANIFEST.format(text, overall, "0" * 64))
    with pytest.raises(DataError, match=r"value_range is|it holds a (whole )?number|integer string"):
        read_manifest(tmp_path)


def test_a_range_of_whole_numbers_is_one(tmp_path):
    overall = hashlib.sha256(f"{'0' * 64}  a.png\n".encode()).hexdigest()
    (tmp_path / MANIFEST_NAME).write_text(MANIFEST.format("[-1, 1]", overall, "0" * 64))
    assert read_manifest(tmp_path).value_range == (-1.0, 1.0)


@pytest.mark.parametrize(
    "content",
    [b"a = " + b"[" * 20_000, b"a." * 2_000 + b"b = 1", b"\xff\xfe", b"count = " + b"9" * 5000, b"\0"],
)
def test_manifests_that_are_none(content, tmp_path):
    (tmp_path / MANIFEST_NAME).write_bytes(content)
    refused(lambda: read_manifest(tmp_path), "cannot read", MANIFEST_NAME, "delete it")


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_names_of_folders_that_are_none(name):
    refused(lambda: opened(name), "cannot")

"""The checksums are those of sha256sum; `bundle.json` is read strictly, and what is wrong is named."""

import json
import os
import shutil
import subprocess

import pytest

from qsens.device.bundle_files import CHECKSUMS, DOCUMENT, read_bundle, write_checksums
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
    "goldens": {"samples": [0, 7], "bounds": {"fp32_psnr_db": 30.5, "exact_psnr_db": 27}},
    "model": {"name": "net", "graph": "abc"},
    "map": {"digest": "def", "deployed": {"default": "int8", "overrides": {"enc.0": "fp16"}}},
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "qsens" / "device").mkdir(parents=True)
    (tmp_path / DOCUMENT).write_text(json.dumps(DOCUMENT_VALUES))
    (tmp_path / "model.onnx").write_bytes(bytes(range(256)) * 10)
    (tmp_path / "qsens" / "device" / "main.py").write_text("# a file with a name\n")
    write_checksums(tmp_path)
    return tmp_path


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum on this machine")
def test_the_checksums_are_those_of_sha256sum(folder):
    done = subprocess.run(["sha256sum", "--check", CHECKSUMS], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_a_bundle_asks_is_read(folder):
    bundle = read_bundle(folder)
    assert bundle.batch == 2
    assert bundle.input_shapes == {"image": (2, 3, 4, 4), "style": (5,)}
    assert bundle.value_range == (-1.0, 1.0)
    assert (bundle.asked[0].layer, bundle.asked[0].node) == ("enc.0", "/enc/Conv")
    assert (bundle.asked[0].requested, bundle.asked[0].expected) == ("int8", "fp32")
    assert bundle.golden_samples == 2
    assert bundle.float_pins == (("/enc/Conv", "fp16"),)
    assert (bundle.bounds.fp32_psnr_db, bundle.bounds.exact_psnr_db) == (30.5, 27.0)
    assert bundle.beyond is None  # as in bundles of older versions


def at(key, value):
    """A change of one value; numbers are places in lists."""

    def change(values):
        *path, last = [int(part) if part.isdigit() else part for part in key.split(".")]
        for part in path:
            values = values[part]
        values[last] = value

    return change


LAYER = DOCUMENT_VALUES["layers"][0]
IMAGE = DOCUMENT_VALUES["inputs"][0]
NO_NUMBERS = [True, "1", None, [1], {}]
WRONG = [
    *((at("batch", value), "'batch' is ") for value in (0, -1, 10**9, 2**62, 1.5, *NO_NUMBERS)),
    *((at("schema_version", value), "schema version ") for value in (2, 0, True, None, "1", [1])),
    *((at("runtime", value), "'runtime' is ") for value in ("../os", "open.vino", "", None, 1, ["openvino"])),
    *(
        (at("flavour", value), "'flavour' is .*, expected one of strong, weak, u8")
        for value in ("exact", "", None, 1)
    ),
    *(
        (at("outputs", value), "'outputs")
        for value in ([], None, "picture", [1], [""], ["picture", "picture"])
    ),
    *((at("inputs", value), "'inputs") for value in ([], None, {}, [1], [IMAGE, IMAGE])),
    *((at("inputs.0.dtype", value), r"'inputs\.0\.dtype'") for value in ("object", "float31", None, 1)),
    *(
        (at("inputs.0.shape", value), r"'inputs\.0\.shape")
        for value in ([0], [-3], [2**40], ["3"], [1.5], 3, None)
    ),
    (at("inputs.0.shape", [2**20, 2**20]), "'batch' is 2: its inputs would take "),
    *((at("inputs.0.is_batched", value), r"is_batched'") for value in (1, None, "yes")),
    *((at("layers", value), "'layers") for value in ([], None, {}, "all", [1], [LAYER, LAYER])),
    (at("layers", [LAYER, {**LAYER, "layer": "other"}]), "'layers' names '/enc/Conv' twice"),
    (at("layers.0.expected", "int4"), r"'layers\.0\.expected' is 'int4', expected one of int8"),
    *((at("layers.0.requested", value), "requested' is") for value in (None, 8, ["int8"], {})),
    *((at("layers.0.node", value), r"'layers\.0\.node' is") for value in ("", None, 1)),
    *(
        (at("float_pins", value), "'float_pins")
        for value in (None, [1], [["a"]], [["a", "int4"]], [["a", "fp16", 1]])
    ),
    *((at("picture.output", value), r"'picture\.output' is") for value in ("other", "", None, 1)),
    *(
        (at("picture.value_range", value), r"'picture\.value_range")
        for value in (
            [1, -1],
            [1, 1],
            [0],
            [0, 1, 2],
            [],
            None,
            ["0", "1"],
            [False, True],
            [0, 1e300],
            [0, 1e-300],
        )
    ),
    *((at("goldens.samples", value), r"'goldens\.samples") for value in ([], None, 4, [-1], [0.5], ["0"])),
    *((at("goldens.beyond", value), r"'goldens\.beyond") for value in (1, [], {}, {"samples": 2})),
    *((at("goldens.beyond", {"samples": count}), r"beyond\.") for count in (0, 65, 2**40, True, "2")),
    *((at("goldens.bounds.fp32_psnr_db", value), "fp32_psnr_db' is") for value in (-1e6, 1e6, *NO_NUMBERS)),
    *((at("goldens.bounds.exact_psnr_db", value), "exact_psnr_db' is") for value in (-1e6, 1e6, *NO_NUMBERS)),
    *((at("map.deployed.default", value), r"'map\.deployed\.default' is") for value in ("int4", None, [])),
    (at("map.deployed.overrides", {"enc.0": "int4"}), r"'map\.deployed\.overrides\.enc\.0' is 'int4'"),
    (at("map.deployed.overrides", {"enc.7": "int8"}), "'map.deployed' names 'enc.7'"),
    *(
        (at(key, None), f"'{key}' is None")
        for key in ("model.name", "model.graph", "map.digest", "map", "model")
    ),
    *((at(key, []), f"'{key}' is ") for key in ("picture", "goldens", "goldens.bounds", "map.deployed")),
    *(
        (lambda values, key=key: values.pop(key), "'goldens" if key == "goldens" else f"{key}.*' is missing")
        for key in DOCUMENT_VALUES
        if key != "schema_version"
    ),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_wrong_document_is_refused_with_the_key(folder, change, message):
    values = json.loads(json.dumps(DOCUMENT_VALUES))
    change(values)
    (folder / DOCUMENT).write_text(json.dumps(values))
    with pytest.raises(DeviceError, match=message) as caught:
        read_bundle(folder)
    assert caught.value.hint
    assert len(caught.value.message) < 300 + len(str(folder))


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "[]",
            "{",
            "null",
            '"text"',
            "1",
            "\ud800",
            DEEP,
            '{"a":' * 90_000,
            f'{{"schema_version": {DEEP}}}',
        ),
        json.dumps({**DOCUMENT_VALUES, "notes": float("nan")}),
        json.dumps({**DOCUMENT_VALUES, "batch": float("inf")}),
        json.dumps(DOCUMENT_VALUES).replace('"batch": 2', f'"batch": {"9" * 5000}'),
        json.dumps(DOCUMENT_VALUES).replace('"batch": 2', '"batch": 1e999'),
    ],
    ids=range(14),
)
def test_a_document_that_is_none_is_refused(folder, text):
    (folder / DOCUMENT).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DeviceError, match=DOCUMENT):
        read_bundle(folder)


def test_a_document_that_would_fill_the_memory_or_never_end_is_not_read(folder):
    with (folder / DOCUMENT).open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(DeviceError, match="larger than 16 MiB"):
        read_bundle(folder)
    (folder / DOCUMENT).unlink()
    os.mkfifo(folder / DOCUMENT)
    with pytest.raises(DeviceError, match="is not a bundle"):
        read_bundle(folder)


def test_another_folder_is_no_bundle(tmp_path):
    with pytest.raises(DeviceError, match="is not a bundle"):
        read_bundle(tmp_path)

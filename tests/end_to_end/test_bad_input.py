"""Bad input gets one message with the value, one hint, its exit code, and no traceback."""

import io
import pickle
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from tiny_models import normal, onnx_model
from tiny_runs import chain, qsens, write_arrays, write_generator, write_images

CASES: list[Callable[["Bench"], "Bad"]] = []


@dataclass(frozen=True)
class Bench:
    """An empty folder, and good inputs to spoil or to go with something spoiled."""

    folder: Path
    generator: Path
    photos: Path


@dataclass(frozen=True)
class Bad:
    """A command line, and what it must say: `value` in the message, `hint` in the hint."""

    arguments: tuple[object, ...]
    value: str
    hint: str
    exit_code: int = 1


def case(function: Callable[[Bench], Bad]) -> Callable[[Bench], Bad]:
    CASES.append(function)
    return function


@pytest.fixture
def bench(here, generator, photos):
    return Bench(here, generator, photos)


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_bad_input_gets_one_clear_message(make, bench, monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", _no_network)
    monkeypatch.setenv("TORCH_HOME", str(bench.folder / "torch"))
    bad = make(bench)
    result = qsens(*bad.arguments)
    assert result.exit_code == bad.exit_code, result.output
    message, hint = result.stderr.strip().splitlines()[-2:]
    assert message.startswith("Error: ")
    assert bad.value in message
    assert hint.startswith("Hint: ")
    assert bad.hint in hint
    assert "Traceback" not in result.output
    assert not (bench.folder / "ran.txt").exists(), "the file's code ran"
    assert not (bench.folder / "run" / "journal.jsonl").exists(), "a run began all the same"


def test_the_code_in_the_pickle_would_run(bench):
    arguments = torch_pickle_that_runs_code(bench).arguments
    assert qsens(*arguments, "--trust-checkpoint").exit_code == 1
    assert (bench.folder / "ran.txt").exists()


def swept(bench: Bench, *arguments: object, checkpoint: object = None, calibration: object = None) -> tuple:
    """A sweep that is good but for what is given."""
    return (
        *("sweep", checkpoint or bench.generator, "--calibration", calibration or bench.photos),
        *("--out", bench.folder / "run", "--metric", "psnr", *arguments),
    )


def _no_network(*_: object, **__: object) -> object:
    raise urllib.error.URLError("no network in this test")


# Checkpoints


@case
def no_such_checkpoint(bench):
    return Bad(swept(bench, checkpoint="absent.onnx"), "absent.onnx", "check the path")


@case
def corrupt_onnx(bench):
    (bench.folder / "noise.onnx").write_bytes(np.random.default_rng(0).bytes(4000))
    return Bad(swept(bench, checkpoint="noise.onnx"), "noise.onnx", "fetch it again")


@case
def truncated_onnx(bench):
    whole = bench.generator.read_bytes()
    (bench.folder / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    return Bad(swept(bench, checkpoint="cut.onnx"), "cut.onnx", "fetch it again")


@case
def truncated_torch_file(bench):
    import torch

    torch.save({"weight": torch.zeros(64, 64)}, bench.folder / "whole.pth")
    content = (bench.folder / "whole.pth").read_bytes()
    (bench.folder / "cut.pth").write_bytes(content[: len(content) // 2])
    arguments = swept(bench, "--model", "tiny_torch:small", checkpoint="cut.pth")
    return Bad(arguments, "cut.pth", "fetch it again")


@case
def web_page_as_onnx(bench):
    (bench.folder / "page.onnx").write_text("<!DOCTYPE html><html><body>quota exceeded</body></html>")
    return Bad(swept(bench, checkpoint="page.onnx"), "page.onnx is a web page", "fetch the file itself")


@case
def web_page_as_torch_file(bench):
    (bench.folder / "page.pth").write_text("\n<html><body>sign in</body></html>")
    arguments = swept(bench, "--model", "tiny_torch:small", checkpoint="page.pth")
    return Bad(arguments, "page.pth is a web page", "fetch the file itself")


class _Runs:
    """Runs code when it is read from a pickle."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.write_text, (self.marker, "the pickle ran code")


@case
def torch_pickle_that_runs_code(bench):
    import torch

    torch.save({"state_dict": _Runs(bench.folder / "ran.txt")}, bench.folder / "evil.pth")
    arguments = swept(bench, "--model", "tiny_torch:small", checkpoint="evil.pth")
    return Bad(arguments, "evil.pth wants to run code", "--trust-checkpoint")


@case
def plain_pickle_that_runs_code(bench):
    (bench.folder / "evil.pkl").write_bytes(pickle.dumps(_Runs(bench.folder / "ran.txt"), protocol=4))
    arguments = swept(bench, "--model", "tiny_torch:small", checkpoint="evil.pkl")
    return Bad(arguments, "evil.pkl is a plain pickle", "state_dict")


@case
def zipped_pickle_that_runs_code(bench):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("evil/data.pkl", pickle.dumps(_Runs(bench.folder / "ran.txt"), protocol=2))
        archive.writestr("evil/version", "3\n")
        archive.writestr("evil/byteorder", "little")
    (bench.folder / "evil.pth").write_bytes(content.getvalue())
    arguments = swept(bench, "--model", "tiny_torch:small", checkpoint="evil.pth")
    return Bad(arguments, "evil.pth wants to run code", "--trust-checkpoint")


@case
def weights_without_a_network(bench):
    (bench.folder / "weights.pth").write_bytes(b"PK\x03\x04")
    return Bad(swept(bench, checkpoint="weights.pth"), "weights.pth", "--model", exit_code=2)


@case
def factory_that_is_not_there(bench):
    arguments = swept(bench, "--model", "tiny_torch:smal", checkpoint="weights.pth")
    return Bad(arguments, "'smal'", "did you mean 'small'?", exit_code=2)


# Graphs


@case
def graph_without_a_layer(bench):
    node = helper.make_node("Sigmoid", ["image"], ["picture"], "squash")
    shape = ["n", 3, 16, 16]
    model = onnx_model([node], inputs={"image": shape}, outputs={"picture": shape})
    write_generator(bench.folder / "nothing.onnx", model)
    return Bad(swept(bench, checkpoint="nothing.onnx"), "no layer", "")


@case
def quantized_graph(bench):
    model = onnx.load(bench.generator)
    scale = {"scale": np.float32(0.1), "zero": np.int8(0)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in scale.items())
    quantize = helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["codes"], "q")
    back = helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["image_q"], "dq")
    first = model.graph.node[0]
    first.input[0] = "image_q"
    nodes = [quantize, back, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    write_generator(bench.folder / "quantized.onnx", model)
    value = "already quantized: it holds 1 DequantizeLinear, 1 QuantizeLinear"
    return Bad(swept(bench, checkpoint="quantized.onnx"), value, "FP32 graph")


@case
def half_precision_graph(bench):
    model = chain()
    for tensor in model.graph.initializer:
        half = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    write_generator(bench.folder / "half.onnx", model)
    return Bad(swept(bench, checkpoint="half.onnx"), "float16", "float32")


@case
def old_operator_set(bench):
    model = chain()
    model.opset_import[0].version = 11
    write_generator(bench.folder / "old.onnx", model)
    return Bad(swept(bench, checkpoint="old.onnx"), "operator set 11", "opset_version=17")


# Patterns


@case
def misspelt_pin(bench):
    arguments = swept(bench, "--pin", "blok1=fp16")
    return Bad(arguments, "'blok1' matches no layer", "did you mean 'block1'?", exit_code=2)


@case
def pin_of_a_layer_that_is_not_there(bench):
    arguments = swept(bench, "--pin", "decoder.*=fp16")
    return Bad(arguments, "'decoder.*' matches no layer", "named like 'block0.conv0'", exit_code=2)


@case
def pin_without_a_precision(bench):
    return Bad(swept(bench, "--pin", "block1"), "'block1'", "PATTERN=PRECISION", exit_code=2)


@case
def pin_to_an_unknown_precision(bench):
    return Bad(swept(bench, "--pin", "block1=fp8"), "fp8", "", exit_code=2)


# Images and arrays


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


# Names of plug-ins


@case
def unknown_model(bench):
    return Bad(swept(bench, "--model", "stile"), "'stile'", "did you mean 'style'?", exit_code=2)


@case
def unknown_backend(bench):
    arguments = swept(bench, "--backend", "onnxruntim")
    return Bad(arguments, "'onnxruntim'", "did you mean 'onnxruntime'?", exit_code=2)


@case
def unknown_strategy(bench):
    arguments = swept(bench, "--strategy", "boundry")
    return Bad(arguments, "'boundry'", "did you mean 'boundary'?", exit_code=2)


@case
def unknown_metric(bench):
    return Bad(swept(bench, "--metric", "psnrr"), "'psnrr'", "did you mean 'psnr'?", exit_code=2)


@case
def unknown_extractor(bench):
    arguments = swept(bench, "--metric", "fid-fp32", "--extractor", "lite")
    return Bad(arguments, "'lite'", "did you mean 'lite0'?", exit_code=2)


@case
def unknown_option_of_a_plugin(bench):
    arguments = swept(bench, "--option", "strategy.directoin=both")
    return Bad(arguments, "'directoin'", "did you mean 'direction'?", exit_code=2)


@case
def wrong_value_of_a_plugin_option(bench):
    arguments = swept(bench, "--option", "strategy.direction=sideways")
    return Bad(arguments, "'sideways'", "int8-first", exit_code=2)


@case
def provider_that_is_not_there(bench):
    return Bad(swept(bench, "--option", "backend.provider=tpu"), "'tpu'", "it has cpu", exit_code=2)


@case
def too_many_maps(bench):
    arguments = swept(
        bench, "--strategy", "exhaustive", "--by", "layer", "--option", "strategy.maximum_maps=8"
    )
    return Bad(arguments, "16 maps", "--by block", exit_code=2)


# Extractors


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


# Options and specs


@case
def budget_that_is_no_number(bench):
    return Bad(swept(bench, "--budget", "lots"), "lots", "2.0", exit_code=2)


@case
def negative_budget(bench):
    return Bad(swept(bench, "--budget", "-3"), "-3", "2.0", exit_code=2)


@case
def share_of_an_endless_score(bench):
    return Bad(swept(bench, "--budget", "5%"), "5%", "dB", exit_code=2)


@case
def guard_without_its_score(bench):
    return Bad(swept(bench, "--budget", "30", "--guard", "2"), "guard", "--metric fid-fp32", exit_code=2)


@case
def spec_with_an_unknown_key(bench):
    (bench.folder / "sweep.toml").write_text('stratgy = "boundary"\n')
    return Bad(swept(bench, "--spec", "sweep.toml"), "stratgy", "strategy", exit_code=2)


@case
def spec_that_is_no_toml(bench):
    (bench.folder / "sweep.toml").write_text("strategy = boundary\n")
    return Bad(swept(bench, "--spec", "sweep.toml"), "sweep.toml is not TOML", "quotes", exit_code=2)


@case
def spec_that_is_not_there(bench):
    return Bad(swept(bench, "--spec", "absent.toml"), "absent.toml", "TOML file", exit_code=2)


@case
def rule_for_an_unknown_input(bench):
    (bench.folder / "sweep.toml").write_text('[inputs.imag]\nsource = "image"\n')
    return Bad(swept(bench, "--spec", "sweep.toml"), "'imag'", "did you mean 'image'?", exit_code=2)


@case
def unknown_output(bench):
    (bench.folder / "sweep.toml").write_text('[output]\nname = "pictur"\n')
    return Bad(swept(bench, "--spec", "sweep.toml"), "'pictur'", "picture", exit_code=2)


@case
def shape_of_an_unknown_input(bench):
    return Bad(swept(bench, "--input-shape", "imag=1x3x16x16"), "imag", "image", exit_code=2)


@case
def nothing_to_sweep(bench):
    return Bad(("sweep", "--calibration", bench.photos), "no generator", "CHECKPOINT", exit_code=2)


@case
def nothing_to_calibrate_on(bench):
    arguments = ("sweep", bench.generator, "--out", "run")
    return Bad(arguments, "no calibration set", "--calibration FOLDER", exit_code=2)


@case
def two_checkpoints_of_one_name(bench):
    other = bench.folder / "other" / bench.generator.name
    other.parent.mkdir()
    other.write_bytes(bench.generator.read_bytes())
    arguments = swept(bench, "--out", "runs")
    return Bad((*arguments, other), "generator", "", exit_code=2)


# Run folders


@case
def out_that_is_a_file(bench):
    (bench.folder / "run").write_text("")
    return Bad(swept(bench), "run is a file", "--out")


@case
def out_that_holds_something_else(bench):
    (bench.folder / "run").mkdir()
    (bench.folder / "run" / "thesis.tex").write_text("")
    return Bad(swept(bench), "'thesis.tex'", "--out")


@case
def report_of_no_run(bench):
    return Bad(("report", bench.photos), "is not a run folder", "qsens sweep --out")


@case
def select_from_no_run(bench):
    return Bad(("select", "absent", "--budget", "2"), "absent", "qsens sweep --out")


@case
def misspelt_command(bench):
    return Bad(("swep", bench.generator), "'swep'", "did you mean 'sweep'?", exit_code=2)

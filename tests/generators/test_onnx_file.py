import contextlib
import os

import numpy as np
import onnx
import pytest
from tiny_models import conv_model, norm_node

from qsens.core.errors import LoadError
from qsens.core.interfaces import Generator
from qsens.generators.onnx_file import open_onnx
from qsens.graph import onnx_run
from qsens.graph.prepare import prepare_graph


def save_external(path):
    onnx.save(conv_model(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def test_a_file_becomes_a_generator(tmp_path):
    onnx.save(conv_model(), tmp_path / "talker.onnx")
    generator = open_onnx(tmp_path / "talker.onnx")
    assert isinstance(generator, Generator)
    assert generator.name == "talker"
    assert open_onnx(tmp_path / "talker.onnx", name="mine").name == "mine"
    assert len(prepare_graph(generator.export()).layers) == 2


def test_external_data_is_read(tmp_path):
    onnx.save(conv_model(), tmp_path / "inside.onnx")
    inside = open_onnx(tmp_path / "inside.onnx")
    outside = open_onnx(save_external(tmp_path / "outside.onnx"))
    assert outside.digest == inside.digest
    assert prepare_graph(outside.export()).digest == prepare_graph(inside.export()).digest


def test_missing_external_data_is_named(tmp_path):
    path = save_external(tmp_path / "outside.onnx")
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(LoadError, match=r"external data of .*outside\.onnx"):
        open_onnx(path)


def test_cut_external_data_is_named(tmp_path):
    path = save_external(tmp_path / "outside.onnx")
    whole = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LoadError, match=r"external data of .*outside\.onnx"):
        prepare_graph(open_onnx(path).export())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<html>404</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-LFS pointer"),
        (bytes(range(256)), "is damaged"),
    ],
)
def test_files_that_are_no_model(content, message, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(LoadError, match=message):
        open_onnx(path)


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bytes_never_end_in_a_traceback(seed, tmp_path):
    generator = np.random.default_rng(seed)
    content = bytearray(conv_model().SerializeToString())
    for position in generator.integers(len(content), size=3):
        content[position] = generator.integers(256)
    path = tmp_path / "flipped.onnx"
    path.write_bytes(content)
    with contextlib.suppress(LoadError):
        prepare_graph(open_onnx(path).export())


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.99])
def test_truncated_files_are_refused(share, tmp_path):
    whole = conv_model().SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(LoadError):
        prepare_graph(open_onnx(path).export())


def test_graphs_beyond_the_message_limit_go_through_a_file(monkeypatch):
    wanted = prepare_graph(conv_model())
    monkeypatch.setattr(onnx_run, "_LARGEST_MESSAGE", 0)
    assert prepare_graph(conv_model()).digest == wanted.digest


def test_a_norm_without_parameters_is_refused_not_crashed_on(tmp_path):
    model = conv_model()
    model.graph.node.append(norm_node("picture", "z"))
    model.graph.output[0].name = "z"
    with pytest.raises(LoadError, match="which nothing makes"):
        prepare_graph(model)


def outside(tensor, **entries):
    """Have the tensor's data lie beside the model."""
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


def make_neighbours(folder):
    os.mkfifo(folder / "pipe")
    (folder / "zeros").symlink_to("/dev/zero")
    (folder / "weights.bin").write_bytes(bytes(432))
    with (folder / "large.bin").open("wb") as file:
        file.truncate(2**43)


EXTERNAL = {
    "name_too_long": {"location": "a" * 5000},
    "path_too_long": {"location": "/".join(["a" * 200] * 30)},
    "name_with_nul": {"location": "a\0b"},
    "no_name": {},
    "pipe": {"location": "pipe"},
    "device": {"location": "zeros"},
    "outside_the_folder": {"location": "../weights.bin"},
    "larger_than_its_shape": {"location": "large.bin"},
    "longer_than_its_shape": {"location": "large.bin", "length": str(2**40)},
    "negative_length": {"location": "weights.bin", "length": "-5"},
    "offset_behind_the_end": {"location": "weights.bin", "offset": str(2**63)},
    "length_of_5000_digits": {"location": "weights.bin", "length": "9" * 5000},
}


@pytest.mark.parametrize("where", ["initializer", "constant"])
@pytest.mark.parametrize("name", EXTERNAL)
def test_external_data_that_is_none(name, where, tmp_path):
    make_neighbours(tmp_path)
    model = conv_model()
    tensor = model.graph.initializer[0]
    if where == "constant":
        node = model.graph.node.add(op_type="Constant", output=["own"])
        node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR, t=tensor)
        tensor = node.attribute[0].t
    outside(tensor, **EXTERNAL[name])
    path = tmp_path / "outside.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(LoadError, match=r"external data of .*outside\.onnx cannot be read") as raised:
        open_onnx(path)
    assert "\n" not in raised.value.message


def test_external_data_beyond_the_memory_is_refused_before_it_is_read(tmp_path):
    make_neighbours(tmp_path)
    model = conv_model()
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([2**41])
    outside(model.graph.initializer[0], location="large.bin")
    (tmp_path / "outside.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(LoadError, match=r"it holds 8,796,093,022,208 bytes, this machine has"):
        open_onnx(tmp_path / "outside.onnx")


def test_a_file_larger_than_any_onnx_file_is_not_read(tmp_path):
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.write(b"\x08\x08")
        file.truncate(2**40)
    with pytest.raises(LoadError, match="never larger than 2 GiB"):
        open_onnx(path)

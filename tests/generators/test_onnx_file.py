import contextlib

import numpy as np
import onnx
import pytest
from tiny_models import conv_model, norm_node

from qsens.errors import LoadError
from qsens.generators.onnx_file import open_onnx
from qsens.graph import runs
from qsens.graph.prepare import prepare_graph
from qsens.interfaces import Generator


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
    monkeypatch.setattr(runs, "_LARGEST_MESSAGE", 0)
    assert prepare_graph(conv_model()).digest == wanted.digest


def test_a_norm_without_parameters_is_refused_not_crashed_on(tmp_path):
    model = conv_model()
    model.graph.node.append(norm_node("picture", "z"))
    model.graph.output[0].name = "z"
    with pytest.raises(LoadError, match="which nothing makes"):
        prepare_graph(model)

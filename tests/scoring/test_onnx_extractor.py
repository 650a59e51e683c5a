"""Extractors that somebody brings as an ONNX file with a TOML file beside it."""

import os
import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from extractor_files import network
from onnx import TensorProto, helper
from PIL import Image

from qsens.cli.main import main
from qsens.core.errors import LoadError, ScoreError, SpecError
from qsens.scoring.extractors import load_extractor
from qsens.scoring.onnx_extractor import Preprocessing, preprocessing_model

STATEMENT = 'name = "mine"\n'


def stated(path: Path, text: str = "", output: str = "features") -> str:
    """The network with its TOML file: the name of the extractor."""
    network(path)
    path.with_suffix(".toml").write_text(f'{STATEMENT}output = "{output}"\n{text}')
    return str(path)


def pictures(count: int, height: int = 8, width: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, height, width), dtype=np.uint8)


def test_features_are_those_of_the_prepared_pictures(tmp_path):
    name = stated(tmp_path / "n.onnx", 'colour_order = "bgr"\nmean = [0.5, 0.4, 0.3]\nstd = [0.25, 0.5, 1.0]')
    extractor = load_extractor(name, threads=1)
    images = pictures(11)
    means = images.mean(axis=(2, 3), dtype=np.float64)[:, ::-1] / 255
    expected = (means - [0.5, 0.4, 0.3]) / [0.25, 0.5, 1.0]
    np.testing.assert_allclose(extractor.run(images), expected, atol=1e-5)
    assert (extractor.name, extractor.dimension, extractor.input_size) == ("mine", 3, 8)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(extractor.run))(images), extractor.run(images))


@pytest.mark.parametrize(("resize", "filtering"), [("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)])
def test_antialiased_resizing_is_pillows(resize, filtering):
    import onnxruntime

    rules = Preprocessing(size=(9, 12), resize=resize)
    smooth = np.asarray(Image.fromarray(pictures(1, 6, 5)[0].transpose(1, 2, 0)).resize((50, 40), 3))
    session = onnxruntime.InferenceSession(preprocessing_model(rules).SerializeToString())
    (found,) = session.run(None, {"images": smooth.transpose(2, 0, 1)[None]})
    expected = np.asarray(Image.fromarray(smooth).resize((12, 9), filtering), np.float32) / 255
    # Pillow rounds to whole levels, once along each axis, and cuts what bicubic overshoots.
    np.testing.assert_allclose(np.clip(found[0], 0, 1), expected.transpose(2, 0, 1), atol=1.6 / 255)


def test_the_statement_in_the_documents_is_whole(tmp_path):
    document = (Path(__file__).parents[2] / "docs" / "extractors.md").read_text()
    (tmp_path / "faces.toml").write_text(document.partition("```toml\n")[2].partition("```")[0])
    model = onnx.load(network(tmp_path / "n.onnx", side=112))
    names = {"pictures": "images", "features": "embedding"}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for entry in (*model.graph.input, *model.graph.output):
        entry.name = names.get(entry.name, entry.name)
    onnx.save(model, tmp_path / "faces.onnx")
    extractor = load_extractor(str(tmp_path / "faces.onnx"), threads=1)
    assert (extractor.name, extractor.input_size) == ("faces", 112)
    means = pictures(2, 112, 112).mean(axis=(2, 3), dtype=np.float64) / 255
    np.testing.assert_allclose(extractor.run(pictures(2, 112, 112)), (means - 0.5) / 0.5, atol=1e-5)


def test_a_network_for_batches_of_one_size_takes_any_number(tmp_path):
    name = stated(tmp_path / "n.onnx")
    free = load_extractor(name, threads=1).run(pictures(5))
    network(tmp_path / "n.onnx", batch=3)
    np.testing.assert_array_equal(load_extractor(name, threads=1).run(pictures(5)), free)


def test_without_a_statement_the_message_is_one_that_works(tmp_path):
    path = network(tmp_path / "n.onnx")
    with pytest.raises(SpecError, match="nothing says how pictures are prepared") as caught:
        load_extractor(str(path))
    example = caught.value.hint.partition("\n")[2]
    path.with_suffix(".toml").write_text(example)
    assert load_extractor(str(path), threads=1).dimension == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("size = 224", "reads pictures of 8 by 8"),
        ('input = "images"', "pictures"),
        ("means = [1, 2, 3]", "no key named 'means'"),
        ("mean = [1, 2]", "mean = [R, G, B]"),
        ("std = [1, 1, 0]", "above 0"),
        ('resize = "lanczos"', "bilinear, bicubic, nearest"),
        ("= 1", "cannot be read"),
    ],
)
def test_a_statement_that_cannot_be_is_refused(tmp_path, text, said):
    name = stated(tmp_path / "n.onnx", text)
    with pytest.raises(SpecError) as caught:
        load_extractor(name)
    assert said in f"{caught.value.message}; {caught.value.hint}"


@pytest.mark.parametrize("taken", ["inception", "lite0", "", "a[b]"])
def test_a_name_that_means_another_network_is_refused(tmp_path, taken):
    path = network(tmp_path / "n.onnx")
    path.with_suffix(".toml").write_text(f'name = "{taken}"\noutput = "features"')
    with pytest.raises(SpecError, match="name is"):
        load_extractor(str(path))


def test_several_outputs_are_a_choice_and_maps_are_no_features(tmp_path):
    path = network(tmp_path / "n.onnx")
    path.with_suffix(".toml").write_text(STATEMENT)
    with pytest.raises(SpecError, match="2 outputs") as caught:
        load_extractor(str(path))
    assert "features, maps" in caught.value.hint
    with pytest.raises(LoadError, match=r"\(1, 3, 8, 8\)"):
        load_extractor(stated(path, output="maps"))


def test_features_that_are_no_numbers_are_named(tmp_path):
    name = stated(tmp_path / "n.onnx")
    network(tmp_path / "n.onnx", scale=float("nan"))
    with pytest.raises(ScoreError, match=r"n\.onnx makes features that are NaN"):
        load_extractor(name)


def test_a_file_that_is_no_network_is_named(tmp_path):
    (tmp_path / "n.onnx").write_text("no network")
    with pytest.raises(LoadError, match=r"n\.onnx"):
        load_extractor(str(tmp_path / "n.onnx"))


def test_weights_in_other_files_are_refused_wherever_they_are(tmp_path):
    """A runtime would read any file that they name."""
    name = stated(tmp_path / "n.onnx")
    model = onnx.load(name)
    outside = helper.make_tensor("t", TensorProto.FLOAT, [1], np.zeros(1, np.float32).tobytes(), raw=True)
    outside.ClearField("raw_data")
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="secret.bin")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["unused"], value=outside))
    (tmp_path / "n.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(LoadError, match="weights in another file"):
        load_extractor(name)


def test_a_pipe_is_no_extractor(tmp_path):
    os.mkfifo(tmp_path / "n.onnx")
    with pytest.raises(LoadError, match="pipe"):
        load_extractor(str(tmp_path / "n.onnx"))


def test_two_folders_are_compared_by_a_file(tmp_path):
    name = stated(tmp_path / "n.onnx")
    for number, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        for index, picture in enumerate(pictures(6)):
            values = np.clip(picture.astype(int) + 9 * number, 0, 255).astype(np.uint8)
            Image.fromarray(values.transpose(1, 2, 0)).save(tmp_path / folder / f"{index}.png")
    result = CliRunner().invoke(main, ["fid", str(tmp_path / "a"), str(tmp_path / "b"), "--extractor", name])
    assert result.exit_code == 0, result.output
    assert "fid[mine]" in result.output

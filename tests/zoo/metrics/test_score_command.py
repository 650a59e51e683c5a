import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from PIL import Image

from qsens.cli.main import main
from qsens.zoo.audio.wave import write_wave

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from qsens.zoo.wav2lip.generator import Wav2Lip

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("talker") / "random.pth"
    torch.save(Wav2Lip(0.125, residual=False).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    generator = np.random.default_rng(0)
    for speaker in range(2):
        folder = root / f"s{speaker}" / "0"
        folder.mkdir(parents=True)
        write_wave(folder / "audio.wav", generator.normal(0, 0.1, 16_000))
        for frame in range(8):
            pixels = generator.integers(0, 256, (96, 96, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{frame}.jpg")
        rows = [f"{frame},{frame / 8},0.{frame},0.5" for frame in range(8)]
        (folder / "mouth.csv").write_text("\n".join(["frame,open,width,round", *rows]) + "\n")
    return root


def run(*arguments):
    return CliRunner().invoke(main, ["zoo", "score", *map(str, arguments)])


def test_prints_the_table_and_what_it_could_not_measure(checkpoint, clips, monkeypatch, tmp_path):
    monkeypatch.setenv("QSENS_SYNCNET_WEIGHTS", str(tmp_path / "absent.model"))
    result = run(checkpoint, "--data", clips)
    assert result.exit_code == 0, result.output
    for text in (
        "mouth box, another clip's sound",
        "true frames (the reader's ceiling)",
        "16 frames of 2 clips",
    ):
        assert text in result.output
    assert "LSE-D and LSE-C: no weights of the evaluation SyncNet" in result.output


def test_json_holds_the_same_for_the_same_seed(checkpoint, clips):
    first, second = (json.loads(run(checkpoint, "--data", clips, "--json").stdout) for _ in range(2))
    assert first == second
    assert first["margin_over_reference_db"] == pytest.approx(
        first["mouth_psnr_db"] - first["reference_mouth_psnr_db"]
    )
    assert set(first["readings"]["generated"]) == {"open", "width", "round"}
    assert first["lip_sync"] is None
    assert (first["frames"], first["clips"]) == (16, 2)


def test_an_onnx_file_is_scored_as_it_is(clips, tmp_path):
    copied = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Slice", ["face", "three", "six", "one"], ["reference"]),
            onnx.helper.make_node("ReduceMean", ["mel"], ["level"], axes=[1, 2, 3], keepdims=1),
            onnx.helper.make_node("Mul", ["level", "none"], ["nothing"]),
            onnx.helper.make_node("Add", ["reference", "nothing"], ["output"]),
        ],
        "copies the reference",
        [
            onnx.helper.make_tensor_value_info("mel", onnx.TensorProto.FLOAT, ["n", 1, 80, 16]),
            onnx.helper.make_tensor_value_info("face", onnx.TensorProto.FLOAT, ["n", 6, 96, 96]),
        ],
        [onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, ["n", 3, 96, 96])],
        [
            onnx.numpy_helper.from_array(np.array([value], dtype), name)
            for name, value, dtype in (
                ("three", 3, np.int64), ("six", 6, np.int64), ("one", 1, np.int64), ("none", 0, np.float32),
            )
        ],
    )  # fmt: skip
    path = tmp_path / "copies.onnx"
    onnx.save(
        onnx.helper.make_model(copied, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8), path
    )
    scores = json.loads(run(path, "--model", "onnx", "--data", clips, "--json").stdout)
    assert scores["margin_over_wrong_audio_db"] == 0.0
    assert scores["margin_over_reference_db"] == 0.0
    assert scores["versions"].count("onnxruntime") == 1


def test_weights_that_were_named_must_be_there(checkpoint, clips, tmp_path):
    result = run(checkpoint, "--data", clips, "--syncnet", tmp_path / "none.model")
    assert result.exit_code == 1
    assert "none.model" in result.output

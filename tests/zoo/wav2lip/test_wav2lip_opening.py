import pytest
import torch
from safetensors.torch import save_file

from qsens.core.errors import LoadError, SpecError
from qsens.core.interfaces import OutputRule
from qsens.zoo.syncnet.network import SyncNet
from qsens.zoo.wav2lip import opening
from qsens.zoo.wav2lip.architecture import Stage, scaled
from qsens.zoo.wav2lip.discriminator import QualityDiscriminator
from qsens.zoo.wav2lip.expert import LipSyncExpert
from qsens.zoo.wav2lip.generator import Wav2Lip
from qsens.zoo.wav2lip.opening import architecture_in, open_wav2lip
from qsens.zoo.wav2lip.variants import CUT_INNER, VARIANTS

NARROW = 1 / 16
DECONV = "face_decoder_blocks.2.0.conv_block.0.weight"


@pytest.fixture(scope="module")
def student():
    torch.manual_seed(0)
    return Wav2Lip(NARROW, residual=False).eval()


def wrapped(state):
    """As the published training script saves it."""
    adam = {
        "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}},
        "param_groups": [{"lr": 1e-4}],
    }
    return {"state_dict": state, "optimizer": adam, "global_step": 3, "global_epoch": 1}


def data_parallel(module, path):
    torch.save(wrapped({f"module.{key}": value for key, value in module.state_dict().items()}), path)


def scripted(module, path):
    given = module.example_inputs()
    torch.jit.save(torch.jit.trace(module, (given["mel"], given["face"]), check_trace=False), path)


SAVERS = {
    "published": lambda module, path: torch.save(wrapped(module.state_dict()), path),
    "data parallel": data_parallel,
    "bare": lambda module, path: torch.save(module.state_dict(), path),
    "torchscript": scripted,
    "safetensors": lambda module, path: save_file(module.state_dict(), path),
}


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("form", SAVERS)
def test_opens_every_published_form(form, student, tmp_path):
    path = tmp_path / "wav2lip.pth"
    SAVERS[form](student, path)
    opened = open_wav2lip(path)
    assert opened.name == "wav2lip"
    expected = student.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in opened.module.state_dict().items())
    assert not opened.module.training


@pytest.mark.parametrize("saver", [SAVERS["bare"], SAVERS["safetensors"]])
def test_fp16_weights_are_widened(saver, tmp_path):
    torch.manual_seed(0)
    halves = Wav2Lip(NARROW, residual=False).half()
    path = tmp_path / "half.safetensors" if saver is SAVERS["safetensors"] else tmp_path / "half.pth"
    saver(halves, path)
    opened = open_wav2lip(path)
    assert {value.dtype for value in opened.module.parameters()} == {torch.float32}
    assert torch.equal(opened.module.state_dict()[DECONV], halves.state_dict()[DECONV].float())


def test_batch_counters_may_be_missing(student, tmp_path):
    path = tmp_path / "old.pth"
    state = {key: value for key, value in student.state_dict().items() if "num_batches" not in key}
    torch.save(state, path)
    opened = open_wav2lip(path).module.state_dict()
    assert torch.equal(opened[DECONV], state[DECONV])
    assert all(int(value) == 0 for key, value in opened.items() if "num_batches" in key)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_variant_is_read_from_the_file(name):
    with torch.device("meta"):
        weights = Wav2Lip(architecture=VARIANTS[name]).state_dict()
    assert architecture_in(weights, None) == VARIANTS[name]


def test_widths_of_its_own_are_read_from_the_file(tmp_path):
    decoder = (*(Stage(5 + index, 0) for index in range(6)), Stage(3, 1))
    own = opening.Architecture(
        scaled(NARROW, residual=True).audio, scaled(NARROW, residual=True).encoder, decoder, 7
    )
    path = tmp_path / "pruned.pth"
    torch.save(Wav2Lip(architecture=own).state_dict(), path)
    assert open_wav2lip(path).architecture == own
    with pytest.raises(LoadError) as caught:
        open_wav2lip(path, width=0.25)
    assert "no width describes it" in caught.value.hint


def test_opening_draws_no_random_numbers(student, tmp_path):
    path = tmp_path / "student.pth"
    SAVERS["bare"](student, path)
    torch.manual_seed(5)
    open_wav2lip(path)
    after = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(3))


def test_says_what_the_core_wants_to_know(student, tmp_path):
    path = tmp_path / "mine.pth"
    SAVERS["bare"](student, path)
    opened = open_wav2lip(path)
    assert opened.layer_blocks["face_decoder_blocks.6.0.conv_block.0"] == "FD6"
    assert opened.definition_order[:2] == (
        "face_encoder_blocks.0.0.conv_block.0",
        "face_encoder_blocks.1.0.conv_block.0",
    )
    assert len(opened.definition_order) == len(opened.layer_blocks) == 23
    assert opened.output == OutputRule(name="output", value_range=(0.0, 1.0), colour_order="bgr")
    assert "not for commercial use" in opened.notice
    assert list(opened.example_inputs) == ["mel", "face"]


@pytest.mark.parametrize(
    ("options", "first_difference", "hint"),
    [
        (
            {"width": 0.25, "residual": False},
            "'face_encoder_blocks.0.0.conv_block.0.weight', 1x6x7x7 in the file and 4x6x7x7 in the network",
            "--option model.width=0.0625 --option model.residual=false",
        ),
        (
            {"residual": True},
            "'face_encoder_blocks.1.1.conv_block.0.weight', nothing in the file and 2x2x3x3 in the network",
            "--option model.width=0.0625 --option model.residual=false",
        ),
        (
            {"variant": "teacher"},
            "'face_encoder_blocks.0.0.conv_block.0.weight', 1x6x7x7 in the file and 16x6x7x7 in the network",
            "--option model.residual=false",
        ),
    ],
)
def test_another_variant_than_asked_for(options, first_difference, hint, student, tmp_path):
    path = tmp_path / "student.pth"
    SAVERS["bare"](student, path)
    with pytest.raises(LoadError) as caught:
        open_wav2lip(path, **options)
    assert first_difference in caught.value.message
    assert hint in caught.value.hint


def test_a_file_with_residual_layers_where_none_are_wanted(tmp_path):
    path = tmp_path / "residual.pth"
    torch.save(Wav2Lip(NARROW).state_dict(), path)
    with pytest.raises(LoadError) as caught:
        open_wav2lip(path, residual=False)
    assert "'audio_encoder.1.conv_block.0.weight', 2x2x3x3 in the file and 4x2x3x3" in caught.value.message
    assert "--option model.residual=true" in caught.value.hint


def test_the_cut_variant_is_suggested_by_its_name(tmp_path):
    path = tmp_path / "cut.pth"
    torch.save(Wav2Lip(architecture=CUT_INNER).state_dict(), path)
    with pytest.raises(LoadError) as caught:
        open_wav2lip(path, variant="student")
    assert caught.value.hint.startswith("use --option model.variant=cut-inner;")
    assert open_wav2lip(path, variant="cut-inner").architecture == CUT_INNER


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("bias", "'output_block.1.bias', 5 in the file and 3 in the network"),
        ("extra", "'extra.weight', 2 in the file and nothing in the network"),
        ("integers", "'output_block.1.bias', torch.int8 in the file and torch.float32 in the network"),
    ],
)
def test_a_changed_file_is_refused(changed, message, student, tmp_path):
    state = student.state_dict()
    if changed == "extra":
        state["extra.weight"] = torch.zeros(2)
    else:
        state["output_block.1.bias"] = (
            torch.zeros(5) if changed == "bias" else torch.zeros(3, dtype=torch.int8)
        )
    path = tmp_path / "changed.pth"
    torch.save(state, path)
    with pytest.raises(LoadError) as caught:
        open_wav2lip(path)
    assert message in caught.value.message
    assert "changed since" in caught.value.hint


def test_a_missing_stage_names_its_key(student, tmp_path):
    path = tmp_path / "cut_short.pth"
    state = {key: value for key, value in student.state_dict().items() if "decoder_blocks.4" not in key}
    torch.save(state, path)
    with pytest.raises(LoadError, match=r"has no 'face_decoder_blocks.4.0.conv_block.0.weight'"):
        open_wav2lip(path)


def test_an_audio_encoder_of_another_depth(student, tmp_path):
    path = tmp_path / "deeper.pth"
    state = student.state_dict()
    state["audio_encoder.6.conv_block.0.weight"] = torch.zeros(8, 8, 1, 1)
    torch.save(state, path)
    with pytest.raises(LoadError, match="has 7 layers in its audio encoder; Wav2Lip has 13, or 6"):
        open_wav2lip(path)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("face_encoder_blocks.7.0.conv_block.0.weight", "8 face-encoder blocks"),
        ("face_encoder_blocks.1.0.act.weight", "PReLU activations"),
    ],
)
def test_higher_resolution_forks_are_named(key, reason, student, tmp_path):
    path = tmp_path / "wav2lip_288.pth"
    torch.save({**student.state_dict(), key: torch.zeros(1)}, path)
    with pytest.raises(LoadError) as caught:
        open_wav2lip(path)
    assert "fork of Wav2Lip" in caught.value.message
    assert reason in caught.value.message


@pytest.mark.parametrize(
    ("network", "title"),
    [
        (LipSyncExpert, "holds the lip-sync expert"),
        (QualityDiscriminator, "holds the visual-quality discriminator"),
        (SyncNet, "holds the SyncNet of LSE-D and LSE-C"),
    ],
)
def test_other_networks_of_the_family_are_named(network, title, tmp_path):
    path = tmp_path / "other.pth"
    with torch.device("meta"):
        keys = list(network().state_dict())
    torch.save({key: torch.zeros(1) for key in keys}, path)
    with pytest.raises(LoadError) as caught:
        open_wav2lip(path)
    assert title in caught.value.message
    assert "not a Wav2Lip generator" in caught.value.message


def test_the_face_detector_and_strangers_are_refused(tmp_path):
    path = tmp_path / "s3fd.pth"
    torch.save({"conv1_1.weight": torch.zeros(1), "conv3_3_norm.weight": torch.zeros(1)}, path)
    with pytest.raises(LoadError, match="holds the S3FD face detector"):
        open_wav2lip(path)
    torch.save({"backbone.weight": torch.zeros(1)}, path)
    with pytest.raises(LoadError, match=r"its keys begin with backbone\.weight"):
        open_wav2lip(path)


def test_a_download_that_is_a_web_page(tmp_path):
    path = tmp_path / "wav2lip.pth"
    path.write_text("<!DOCTYPE html><html></html>")
    with pytest.raises(LoadError, match="is a web page"):
        open_wav2lip(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "not a width: 0"),
        ({"width": "0.25"}, "not a width: '0.25'"),
        ({"width": True}, "not a width: True"),
        ({"residual": "no"}, "residual is 'no'"),
        ({"variant": "nota"}, "no Wav2Lip variant named 'nota'"),
        ({"variant": "student", "width": 0.25}, "already says width"),
    ],
)
def test_options_that_cannot_be(options, message, tmp_path):
    with pytest.raises(SpecError, match=message):
        open_wav2lip(tmp_path / "never_read.pth", **options)


def test_without_a_checkpoint_the_talker_is_opened(student, tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "TALKER", tmp_path / "talker.safetensors")
    with pytest.raises(LoadError, match="the talker of qsens is not in this installation"):
        open_wav2lip()
    SAVERS["safetensors"](student, opening.TALKER)
    opened = open_wav2lip()
    assert opened.name == "talker"
    assert opened.notice is None


@pytest.mark.slow
def test_the_graph_has_the_names_and_blocks_of_the_generator(student, tmp_path):
    from qsens.run.open import load_graph
    from qsens.zoo.wav2lip.variants import layer_names

    path = tmp_path / "student.pth"
    SAVERS["bare"](student, path)
    opened = open_wav2lip(path)
    graph = load_graph(opened)
    assert tuple(layer.name for layer in graph.layers) == layer_names(opened.architecture)
    assert {layer.name: layer.block for layer in graph.layers} == opened.layer_blocks
    assert [spec.name for spec in graph.inputs] == ["mel", "face"]
    assert graph.outputs == ("output",)
    assert graph.can_batch

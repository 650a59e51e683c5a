import pytest
import torch

from qsens.core.errors import SpecError
from qsens.zoo.wav2lip.architecture import TEACHER, layers_of, scaled
from qsens.zoo.wav2lip.generator import Wav2Lip
from qsens.zoo.wav2lip.variants import (
    CUT_INNER,
    VARIANTS,
    fp16_after,
    fp16_layers,
    layer_blocks,
    layer_names,
    paper_ids,
    preset_named,
    variant_named,
)

STUDENT = scaled(0.25, residual=False)
FACE_BLOCKS = [f"FE{index}" for index in range(7)]
DECODER_BLOCKS = [f"FD{index}" for index in range(7)]


def in_order(names, architecture):
    """Blocks as they come up along the names."""
    blocks = layer_blocks(architecture)
    return list(dict.fromkeys(blocks[name] for name in names))


@pytest.mark.parametrize("name", VARIANTS)
def test_blocks_come_in_execution_order(name):
    architecture = variant_named(name)
    assert in_order(layer_names(architecture), architecture) == ["AE", *FACE_BLOCKS, *DECODER_BLOCKS, "OUT"]


@pytest.mark.parametrize("name", VARIANTS)
def test_definition_order_is_the_order_of_the_keys(name):
    architecture = variant_named(name)
    names = layer_names(architecture, order="definition")
    assert in_order(names, architecture) == [*FACE_BLOCKS, "AE", *DECODER_BLOCKS, "OUT"]
    with torch.device("meta"):
        state = Wav2Lip(architecture=architecture).state_dict()
    weights = [key.removesuffix(".weight") for key in state if state[key].dim() == 4]
    assert list(names) == weights


def test_both_orders_hold_the_same_layers():
    for architecture in VARIANTS.values():
        assert sorted(layer_names(architecture)) == sorted(layer_names(architecture, order="definition"))


def test_layers_have_the_ids_of_the_paper_side():
    ids = paper_ids(TEACHER)
    assert ids["audio_encoder.11.conv_block.0"] == "AE4.0"
    assert ids["face_encoder_blocks.2.3.conv_block.0"] == "FE2.3"
    assert ids["output_block.1"] == "OUT.1"
    assert paper_ids(STUDENT)["audio_encoder.3.conv_block.0"] == "AE3"
    assert paper_ids(STUDENT)["face_encoder_blocks.6.1.conv_block.0"] == "FE6.1"


def test_the_student_mix_is_boundary_21_of_23():
    mix = fp16_layers(STUDENT, preset_named("paper-student"))
    assert mix == ("output_block.0.conv_block.0", "output_block.1")
    assert fp16_after(STUDENT, 21) == mix
    assert fp16_after(STUDENT, 21, order="definition") == mix


@pytest.mark.parametrize(
    ("preset", "decoder"), [("paper-teacher-a", range(46, 51)), ("paper-teacher-b", range(43, 51))]
)
def test_the_teacher_mix_takes_both_ends(preset, decoder):
    names = layer_names(TEACHER)
    chosen = fp16_layers(TEACHER, preset_named(preset))
    assert [names.index(name) for name in chosen] == [*range(13, 17), *decoder]


def test_boundaries_reach_from_all_fp16_to_all_int8():
    assert fp16_after(STUDENT, 0) == layer_names(STUDENT)
    assert fp16_after(STUDENT, 23) == ()
    with pytest.raises(SpecError, match="no boundary 24 in 23 layers"):
        fp16_after(STUDENT, 24)


def test_cut_inner_has_the_published_size_and_wide_ends():
    with torch.device("meta"):
        module = Wav2Lip(architecture=CUT_INNER)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    assert parameters == 1_864_821
    assert round(parameters / 1e6, 1) == 1.9
    assert [stage.channels for stage in CUT_INNER.encoder] == [6, 12, 24, 24, 48, 96, 96]
    assert [stage.channels for stage in CUT_INNER.decoder] == [96, 96, 96, 72, 96, 48, 24]
    assert CUT_INNER.audio == scaled(0.375, residual=True).audio


@pytest.mark.parametrize(("width", "residual"), [(0.01, True), (1 / 3, True), (0.7, False)])
@torch.no_grad()
def test_any_width_fits_together(width, residual):
    layers = layers_of(scaled(width, residual=residual))
    assert min(layer.outputs for layer in layers) >= 1
    with torch.device("meta"):
        module = Wav2Lip(width, residual=residual)
        made = module(torch.empty(2, 1, 80, 16), torch.empty(2, 6, 96, 96))
    assert made.shape == (2, 3, 96, 96)


def test_unknown_names_are_answered_with_close_ones():
    with pytest.raises(SpecError) as caught:
        variant_named("studnet")
    assert caught.value.hint == "did you mean 'student'?"
    with pytest.raises(SpecError) as caught:
        preset_named("paper-teacher-c")
    assert "paper-teacher-" in caught.value.hint
    with pytest.raises(SpecError, match="no order of layers named 'random'"):
        layer_names(TEACHER, order="random")

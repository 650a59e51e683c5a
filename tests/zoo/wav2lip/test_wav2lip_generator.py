import pytest
import torch
from torch.nn import functional
from wav2lip_tables import STUDENT, TEACHER, published

from qsens.zoo.wav2lip.architecture import layers_of, scaled
from qsens.zoo.wav2lip.blocks import DeconvBlock
from qsens.zoo.wav2lip.generator import Wav2Lip

NARROW = 1 / 16


def trained(width, *, residual):
    """A generator whose normalisations do something, as after training."""
    torch.manual_seed(1)
    module = Wav2Lip(width, residual=residual).eval()
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(part.bias, 0, 0.2)
    return module


@pytest.mark.parametrize(
    ("width", "residual", "parameters", "keys"),
    [
        (1.0, True, 36_298_035, 352),
        (0.25, True, 2_275_983, 352),
        (0.25, False, 1_258_143, 156),
        (1.0, False, 20_061_555, 156),
    ],
)
def test_has_the_published_size(width, residual, parameters, keys):
    with torch.device("meta"):
        module = Wav2Lip(width, residual=residual)
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters
    assert len(module.state_dict()) == keys


@pytest.mark.parametrize(("width", "residual", "table"), [(1.0, True, TEACHER), (0.25, False, STUDENT)])
def test_has_the_published_layers(width, residual, table):
    layers = layers_of(scaled(width, residual=residual))
    expected = published(table)
    assert [layer.name for layer in layers] == [entry.name for entry in expected]
    for layer, entry in zip(layers, expected, strict=True):
        assert (layer.module, layer.inputs, layer.outputs) == (entry.module, entry.inputs, entry.outputs)
        assert (layer.kernel, layer.stride, layer.padding) == (entry.kernel, entry.stride, entry.padding)
        assert (layer.is_transposed, layer.is_residual) == (entry.is_transposed, entry.is_residual)
        assert layer.output_padding == int(layer.is_transposed and layer.stride == (2, 2))


@pytest.mark.parametrize(("width", "residual", "table"), [(1.0, True, TEACHER), (0.25, False, STUDENT)])
def test_keys_have_the_published_names_shapes_and_order(width, residual, table):
    expected = {}
    order = ("face_encoder_blocks", "audio_encoder", "face_decoder_blocks", "output_block")
    for group in order:
        for entry in published(table):
            if entry.module.startswith(group):
                expected[f"{entry.module}.weight"] = entry.weight_shape
                expected[f"{entry.module}.bias"] = (entry.outputs,)
                if entry.name != "OUT.1":
                    norm = entry.module.removesuffix("0") + "1"
                    for part in ("weight", "bias", "running_mean", "running_var"):
                        expected[f"{norm}.{part}"] = (entry.outputs,)
                    expected[f"{norm}.num_batches_tracked"] = ()
    with torch.device("meta"):
        state = Wav2Lip(width, residual=residual).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == expected
    assert list(state) == list(expected)


def layer_by_the_book(state, entry, features):
    weight, bias = state[f"{entry.module}.weight"], state[f"{entry.module}.bias"]
    if entry.is_transposed:
        odd = 1 if entry.stride == (2, 2) else 0
        made = functional.conv_transpose2d(features, weight, bias, entry.stride, entry.padding, odd)
    else:
        made = functional.conv2d(features, weight, bias, entry.stride, entry.padding)
    if entry.name == "OUT.1":
        return made
    norm = entry.module.removesuffix("0") + "1."
    mean, variance = (state[norm + part][:, None, None] for part in ("running_mean", "running_var"))
    scale, shift = (state[norm + part][:, None, None] for part in ("weight", "bias"))
    made = (made - mean) / (variance + 1e-5).sqrt() * scale + shift
    return (made + features if entry.is_residual else made).clamp(min=0)


def by_the_book(state, table, mel, face):
    """The generator once more, from the table and its published wiring, with plain functions."""

    def block(prefix, features):
        for entry in published(table):
            if entry.name.startswith(prefix):
                features = layer_by_the_book(state, entry, features)
        return features

    sound, skips = block("AE", mel), [face]
    for index in range(7):
        skips.append(block(f"FE{index}", skips[-1]))
    for index in range(7):
        sound = torch.cat([block(f"FD{index}", sound), skips.pop()], dim=1)
    return torch.sigmoid(block("OUT", sound))


@pytest.mark.parametrize(("residual", "table"), [(True, TEACHER), (False, STUDENT)])
@torch.no_grad()
def test_computes_what_the_published_wiring_says(residual, table):
    module = trained(NARROW, residual=residual)
    mel = torch.rand(2, 1, 80, 16) * 8 - 4
    face = torch.rand(2, 6, 96, 96)
    expected = by_the_book(module.state_dict(), table, mel, face)
    torch.testing.assert_close(module(mel, face), expected, rtol=0, atol=1e-6)
    assert expected.std() > 1e-3  # a generator that answers the same everywhere would agree with anything


@torch.no_grad()
def test_frames_at_once_are_frames_one_by_one():
    module = trained(NARROW, residual=False)
    mel = torch.rand(2, 3, 1, 80, 16) * 8 - 4
    face = torch.rand(2, 6, 3, 96, 96)
    made = module(mel, face)
    assert made.shape == (2, 3, 3, 96, 96)
    for clip in range(2):
        for frame in range(3):
            alone = module(mel[clip : clip + 1, frame], face[clip : clip + 1, :, frame])
            torch.testing.assert_close(made[clip, :, frame], alone[0], rtol=0, atol=1e-6)


@torch.no_grad()
def test_taps_are_what_the_last_layer_of_each_decoder_block_gave():
    module = trained(NARROW, residual=True)
    seen = []
    hooks = [
        stage[-1].register_forward_hook(lambda _part, _given, made: seen.append(made))
        for stage in module.face_decoder_blocks
    ]
    given = module.example_inputs()
    tapped = module.forward_with_taps(**given)
    for hook in hooks:
        hook.remove()
    assert [tuple(tap.shape) for tap in tapped.taps] == [
        (1, 32, 1, 1), (1, 32, 3, 3), (1, 32, 6, 6), (1, 24, 12, 12),
        (1, 16, 24, 24), (1, 8, 48, 48), (1, 4, 96, 96),
    ]  # fmt: skip
    assert all(torch.equal(tap, made) for tap, made in zip(tapped.taps, seen, strict=True))
    assert torch.equal(tapped.frames, module(**given))


@torch.no_grad()
def test_taps_of_frames_at_once_are_in_time_major_order():
    module = trained(NARROW, residual=False)
    mel, face = torch.rand(2, 3, 1, 80, 16), torch.rand(2, 6, 3, 96, 96)
    taps = module.forward_with_taps(mel, face).taps
    alone = module.forward_with_taps(mel[1:2, 2], face[1:2, :, 2]).taps
    for several, one in zip(taps, alone, strict=True):
        torch.testing.assert_close(several[2 * 2 + 1], one[0], rtol=0, atol=1e-5)


def test_example_inputs_are_in_range_and_always_the_same():
    first, second = (Wav2Lip(NARROW, residual=False).example_inputs() for _ in range(2))
    assert list(first) == ["mel", "face"]
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (first["face"][:, :3, 48:] == 0).all()
    assert first["mel"].min() < -3 < 3 < first["mel"].max()


@torch.no_grad()
def test_a_stride_2_deconvolution_is_four_small_convolutions():
    torch.manual_seed(0)
    layer = DeconvBlock(3, 2, 3, stride=2, padding=1, output_padding=1).conv_block[0]
    features = torch.rand(1, 3, 4, 5)
    made = layer(features)
    assert made.shape == (1, 2, 8, 10)
    padded = functional.pad(features, (0, 1, 0, 1))
    # Even outputs see the middle tap, odd outputs the outer two: 1 + 2 + 2 + 4 = 9 taps for each input.
    taps = {0: [(1, 0)], 1: [(2, 0), (0, 1)]}
    for row in (0, 1):
        for column in (0, 1):
            expected = layer.bias[:, None, None].expand(2, 4, 5).clone()
            for down, shift_down in taps[row]:
                for right, shift_right in taps[column]:
                    seen = padded[0, :, shift_down : shift_down + 4, shift_right : shift_right + 5]
                    expected += torch.einsum("chw,co->ohw", seen, layer.weight[:, :, down, right])
            torch.testing.assert_close(made[0, :, row::2, column::2], expected, rtol=0, atol=1e-6)

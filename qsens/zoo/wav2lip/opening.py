"""Generator `wav2lip`: every member of the family, from any published form of its weights."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch

from qsens.core.errors import LoadError, SpecError
from qsens.core.interfaces import OutputRule
from qsens.generators.torch_module import TorchModule
from qsens.zoo.wav2lip.architecture import TEACHER, Architecture, Stage, scaled
from qsens.zoo.wav2lip.generator import Wav2Lip
from qsens.zoo.wav2lip.published import GENERATOR, filled, read_network
from qsens.zoo.wav2lip.variants import VARIANTS, layer_blocks, layer_names, variant_named

TALKER = Path(__file__).parents[1] / "talker" / "talker.safetensors"
NOTICE = (
    "Weights published by the authors of Wav2Lip and of its compressed variants are for research and "
    "personal use only, not for commercial use; check the licence of the file you opened"
)
_LARGEST_WIDTH = 4.0
_AUDIO_LAYERS = sum(1 + stage.residual for stage in TEACHER.audio) + 1
_BARE_AUDIO_LAYERS = len(TEACHER.audio) + 1


class TalkingFace(TorchModule):
    """A Wav2Lip generator with its weights: inputs `mel` and `face`, output `output`, BGR in 0..1.

    `layer_blocks`: block (AE, FE0 to FE6, FD0 to FD6, OUT) by layer name. `definition_order`: layer names as
    the published module declares them. `notice`: what to know about the licence, `None` for our own weights.
    """

    def __init__(self, name: str, module: Wav2Lip, *, notice: str | None) -> None:
        super().__init__(name, module, module.example_inputs())
        self.architecture = module.architecture
        self.layer_blocks = layer_blocks(module.architecture)
        self.definition_order = layer_names(module.architecture, order="definition")
        self.output = OutputRule(name="output", value_range=(0.0, 1.0), colour_order="bgr")
        self.notice = notice


def open_wav2lip(
    checkpoint: Path | None = None,
    *,
    variant: str | None = None,
    width: float | None = None,
    residual: bool | None = None,
    trust_checkpoint: bool = False,
) -> TalkingFace:
    """Open a generator; `None` opens the talker that qsens ships (x0.25, no residual layers).

    What is not given is read from the file's keys and shapes. `variant` is a name of `VARIANTS` and stands
    for a width with or without residual layers. Weights of any float type are widened to FP32.

    Raises:
        SpecError: for a variant that is not there, a width that cannot be, or both together.
        LoadError: for a file that cannot be read, holds something else, or does not fit what was asked for.
    """
    _check_options(variant, width, residual=residual)
    path = _talker() if checkpoint is None else checkpoint
    weights = read_network(path, GENERATOR, trust_checkpoint=trust_checkpoint)
    found = architecture_in(weights, path)
    wanted = found if variant is None else variant_named(variant)
    if width is not None or residual is not None:
        wanted = scaled(
            width_of(found) if width is None else width,
            residual=not found.is_bare if residual is None else residual,
        )
    hint = "the file is incomplete, or was changed since it was saved"
    if wanted != found:
        hint = f"use {options_for(found)}; without options the file's own widths are taken"
    module = filled(partial(Wav2Lip, architecture=wanted), weights, path, hint=hint)
    own = checkpoint is None
    return TalkingFace("talker" if own else path.stem, module, notice=None if own else NOTICE)


def architecture_in(weights: Mapping[str, torch.Tensor], checkpoint: Path) -> Architecture:
    """Widths and residual layers of a generator, read off its keys and shapes.

    Raises:
        LoadError: naming a key that every generator of the family has and this one lacks.
    """
    audio_layers = len(_places(weights, "audio_encoder"))
    if audio_layers not in (_AUDIO_LAYERS, _BARE_AUDIO_LAYERS):
        raise LoadError(
            f"{checkpoint} has {audio_layers} layers in its audio encoder; Wav2Lip has {_AUDIO_LAYERS}, or "
            f"{_BARE_AUDIO_LAYERS} without residual layers",
            "qsens has the 96-pixel family only; export other generators to ONNX with their own code",
        )
    place, audio = 0, []
    for stage in TEACHER.audio:
        residual = stage.residual if audio_layers == _AUDIO_LAYERS else 0
        audio.append(Stage(_channels(weights, f"audio_encoder.{place}", checkpoint), residual))
        place += 1 + residual
    last = len(TEACHER.encoder) - 1
    encoder = [
        _stage(weights, f"face_encoder_blocks.{index}", checkpoint, more=1 if index == last else 0)
        for index in range(last + 1)
    ]
    decoder = [
        _stage(weights, f"face_decoder_blocks.{index}", checkpoint, axis=1 if index else 0)
        for index in range(len(TEACHER.decoder))
    ]
    output = _channels(weights, "output_block.0", checkpoint)
    return Architecture(tuple(audio), tuple(encoder), tuple(decoder), output)


def width_of(architecture: Architecture) -> float:
    """Share of the teacher's channels, taken where it has most of them."""
    return architecture.decoder[0].channels / TEACHER.decoder[0].channels


def options_for(architecture: Architecture) -> str:
    """The options that ask for this architecture on the command line."""
    width, residual = width_of(architecture), not architecture.is_bare
    if architecture == scaled(width, residual=residual):
        return f"--option model.width={width:g} --option model.residual={str(residual).lower()}"
    for name, known in VARIANTS.items():
        if architecture == known:
            return f"--option model.variant={name}"
    return "no option: no width describes it"


def _check_options(variant: str | None, width: float | None, *, residual: bool | None) -> None:
    if variant is not None and (width is not None or residual is not None):
        raise SpecError(
            f"variant {variant!r} already says width and residual layers", "give the variant or those two"
        )
    if variant is not None:
        variant_named(variant)
    if width is not None and (
        isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width <= _LARGEST_WIDTH
    ):
        raise SpecError(f"not a width: {width!r}", f"use a number above 0 and up to {_LARGEST_WIDTH:g}")
    if residual is not None and not isinstance(residual, bool):
        raise SpecError(f"residual is {residual!r}", "use true or false")


def _talker() -> Path:
    if not TALKER.exists():
        raise LoadError(
            f"the talker of qsens is not in this installation ({TALKER.parent.name}/{TALKER.name})",
            "name a checkpoint, or install qsens from a package or a checkout that has it",
        )
    return TALKER


def _places(weights: Mapping[str, torch.Tensor], group: str) -> set[str]:
    parts = (key.removeprefix(f"{group}.").split(".") for key in weights if key.startswith(f"{group}."))
    return {part[0] for part in parts if part[1:3] == ["conv_block", "0"]}


def _stage(
    weights: Mapping[str, torch.Tensor], group: str, checkpoint: Path, *, more: int = 0, axis: int = 0
) -> Stage:
    residual = len(_places(weights, group)) - 1 - more
    return Stage(_channels(weights, f"{group}.0", checkpoint, axis=axis), residual)


def _channels(weights: Mapping[str, torch.Tensor], layer: str, checkpoint: Path, *, axis: int = 0) -> int:
    key = f"{layer}.conv_block.0.weight"
    if key not in weights or weights[key].dim() != 4:
        has = "no" if key not in weights else f"a {weights[key].dim()}-dimensional"
        raise LoadError(
            f"{checkpoint} has {has} {key!r}, which every Wav2Lip generator has",
            "the file is incomplete or of another family",
        )
    return int(weights[key].shape[axis])

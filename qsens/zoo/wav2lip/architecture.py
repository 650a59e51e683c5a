"""Shape of a Wav2Lip generator as plain data: its stages, and every layer with its names and sizes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

MEL_CHANNELS = 1
FACE_CHANNELS = 6
PICTURE_CHANNELS = 3


@dataclass(frozen=True)
class Stage:
    """Layers at one resolution: `channels` wide, the first changes the size, `residual` more add to it."""

    channels: int
    residual: int


@dataclass(frozen=True)
class Architecture:
    """Stages of the audio encoder, the face encoder and the face decoder, and the output block's width."""

    audio: tuple[Stage, ...]
    encoder: tuple[Stage, ...]
    decoder: tuple[Stage, ...]
    output: int

    @property
    def is_bare(self) -> bool:
        """Whether there is no residual layer anywhere; ids of lone layers then lose their `.0`."""
        return not any(stage.residual for stage in (*self.audio, *self.encoder, *self.decoder))


@dataclass(frozen=True)
class LayerPlan:
    """One layer: a convolution or transposed convolution with what follows it.

    `name` is the paper-side id (`FE1.0`), `block` its block (`FE1`), `group` the attribute of the generator
    that holds it, `position` its indices there (stage and place, or place alone).
    """

    name: str
    block: str
    group: str
    position: tuple[int, ...]
    inputs: int
    outputs: int
    kernel: int
    stride: tuple[int, int] = (1, 1)
    padding: int = 0
    output_padding: int = 0
    is_residual: bool = False
    is_transposed: bool = False
    is_plain: bool = False

    @property
    def module(self) -> str:
        """Name of the weighted torch module, which is the name qsens gives to the layer."""
        path = ".".join([self.group, *map(str, self.position)])
        return path if self.is_plain else f"{path}.conv_block.0"


TEACHER = Architecture(
    audio=(Stage(32, 2), Stage(64, 2), Stage(128, 2), Stage(256, 1), Stage(512, 0)),
    encoder=(
        Stage(16, 0), Stage(32, 2), Stage(64, 3), Stage(128, 2), Stage(256, 2), Stage(512, 1), Stage(512, 0),
    ),
    decoder=(
        Stage(512, 0), Stage(512, 1), Stage(512, 2), Stage(384, 2),
        Stage(256, 2), Stage(128, 2), Stage(64, 2),
    ),
    output=32,
)  # fmt: skip


def scaled(width: float, *, residual: bool) -> Architecture:
    """The teacher with `width` times its channels (rounded, at least one), residual layers kept or not."""

    def stages(given: tuple[Stage, ...]) -> tuple[Stage, ...]:
        return tuple(Stage(_times(stage.channels, width), stage.residual * residual) for stage in given)

    return Architecture(
        stages(TEACHER.audio),
        stages(TEACHER.encoder),
        stages(TEACHER.decoder),
        _times(TEACHER.output, width),
    )


def _times(channels: int, width: float) -> int:
    return max(1, round(channels * width))


def layers_of(architecture: Architecture) -> tuple[LayerPlan, ...]:
    """Every layer in execution order: AE, FE0 to FE6, FD0 to FD6, OUT."""
    found = [
        *audio_layers(architecture.audio),
        *_encoder_layers(architecture),
        *_decoder_layers(architecture),
        *_output_layers(architecture),
    ]
    return tuple(_short_names(found)) if architecture.is_bare else tuple(found)


def in_definition_order(layers: tuple[LayerPlan, ...]) -> tuple[LayerPlan, ...]:
    """Layers as the published module declares them: FE0 to FE6, AE, FD0 to FD6, OUT."""
    groups = ("face_encoder_blocks", "audio_encoder", "face_decoder_blocks", "output_block")
    return tuple(layer for group in groups for layer in layers if layer.group == group)


def _short_names(layers: list[LayerPlan]) -> Iterator[LayerPlan]:
    stages = [layer.name.partition(".")[0] for layer in layers]
    for layer, stage in zip(layers, stages, strict=True):
        yield layer if stages.count(stage) > 1 else replace(layer, name=stage)


def audio_layers(stages: Sequence[Stage]) -> Iterator[LayerPlan]:
    """The five stages of an audio encoder: mel (1, 80, 16) to one vector."""
    strides = ((1, 1), (3, 1), (3, 3), (3, 2), (1, 1))
    group, block, inputs, place = "audio_encoder", "AE", MEL_CHANNELS, 0
    for index, (stage, stride) in enumerate(zip(stages, strides, strict=True)):
        wide = stage.channels
        padding = 0 if index == len(strides) - 1 else 1
        yield LayerPlan(
            f"AE{index}.0", block, group, (place,), inputs, wide, 3, stride=stride, padding=padding
        )
        place, inputs = place + 1, wide
        for extra in range(1, stage.residual + 1):
            yield _residual(f"AE{index}.{extra}", block, group, (place,), wide)
            place += 1
    last = len(strides) - 1
    number = stages[last].residual + 1
    yield LayerPlan(f"AE{last}.{number}", block, group, (place,), inputs, inputs, 1)


def _encoder_layers(architecture: Architecture) -> Iterator[LayerPlan]:
    group, inputs, last = "face_encoder_blocks", FACE_CHANNELS, len(architecture.encoder) - 1
    for index, stage in enumerate(architecture.encoder):
        wide, block = stage.channels, f"FE{index}"
        first = LayerPlan(f"{block}.0", block, group, (index, 0), inputs, wide, 3, stride=(2, 2), padding=1)
        if index == 0:
            first = replace(first, kernel=7, stride=(1, 1), padding=3)
        if index == last:
            first = replace(first, stride=(1, 1), padding=0)
        yield first
        inputs = wide
        for extra in range(1, stage.residual + 1):
            yield _residual(f"{block}.{extra}", block, group, (index, extra), wide)
    number = architecture.encoder[last].residual + 1
    yield LayerPlan(f"FE{last}.{number}", f"FE{last}", group, (last, number), inputs, inputs, 1)


def _decoder_layers(architecture: Architecture) -> Iterator[LayerPlan]:
    group, inputs = "face_decoder_blocks", architecture.audio[-1].channels
    skips = [stage.channels for stage in reversed(architecture.encoder)]
    for index, (stage, skip) in enumerate(zip(architecture.decoder, skips, strict=True)):
        wide, block = stage.channels, f"FD{index}"
        first = LayerPlan(f"{block}.0", block, group, (index, 0), inputs, wide, 3, is_transposed=True)
        if index == 0:
            yield replace(first, kernel=1, is_transposed=False)
        elif index == 1:
            yield first
        else:
            yield replace(first, stride=(2, 2), padding=1, output_padding=1)
        for extra in range(1, stage.residual + 1):
            yield _residual(f"{block}.{extra}", block, group, (index, extra), wide)
        inputs = wide + skip


def _output_layers(architecture: Architecture) -> Iterator[LayerPlan]:
    group, wide = "output_block", architecture.output
    inputs = architecture.decoder[-1].channels + architecture.encoder[0].channels
    yield LayerPlan("OUT.0", "OUT", group, (0,), inputs, wide, 3, padding=1)
    yield LayerPlan("OUT.1", "OUT", group, (1,), wide, PICTURE_CHANNELS, 1, is_plain=True)


def _residual(name: str, block: str, group: str, position: tuple[int, ...], wide: int) -> LayerPlan:
    return LayerPlan(name, block, group, position, wide, wide, 3, padding=1, is_residual=True)

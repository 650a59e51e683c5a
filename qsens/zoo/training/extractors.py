"""Fixed networks for feature and style losses: VGG16, the embedded extractor, a random stand-in."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from qsens.core.errors import LoadError
from qsens.device.errors import reason_of
from qsens.generators.checkpoint import read_weights
from qsens.scoring import lite0
from qsens.scoring.convolution_graph import FoldedConvolution, Weights
from qsens.scoring.weights import check_digest, load_weights
from qsens.zoo.training.starting import frozen

VGG16_SHA256_PREFIX = "397923af"
VGG16_NAME = f"vgg16-{VGG16_SHA256_PREFIX}.pth"
_VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512))
_LITE0_LAST_BLOCKS = (0, 2, 4, 10)  # the last ones at strides 2, 4, 8 and 16


class FeatureStages(nn.Module):
    """Four stages of growing depth; never trained. `identity` names network and weights.

    Input: float (N, 3, H, W), RGB, 0 to 1, as OMGD feeds VGG16.
    """

    def __init__(self, identity: str) -> None:
        super().__init__()
        self.identity = identity

    def stages(self, pictures: torch.Tensor) -> Sequence[torch.Tensor]:
        """Four float tensors (N, C, H', W')."""
        raise NotImplementedError


class Vgg16Stages(FeatureStages):
    """relu1_2, relu2_2, relu3_3 and relu4_3 of VGG16; parameters numbered as torchvision does."""

    def __init__(self, identity: str) -> None:
        super().__init__(identity)
        layers: list[nn.Module] = []
        inputs = 3
        self._ends = []
        for index, stage in enumerate(_VGG16_STAGES):
            if index:
                layers.append(nn.MaxPool2d(2))
            for outputs in stage:
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
                inputs = outputs
            self._ends.append(len(layers) - 1)
        self.features = nn.Sequential(*layers)

    def stages(self, pictures: torch.Tensor) -> Sequence[torch.Tensor]:
        found = []
        for index, layer in enumerate(self.features):
            pictures = layer(pictures)
            if index in self._ends:
                found.append(pictures)
        return found


class Lite0Stages(FeatureStages):
    """The embedded EfficientNet-Lite0 after its last blocks at strides 2, 4, 8 and 16.

    Pictures are doubled in size first, so that the stages have the sizes of VGG16's.
    """

    def __init__(self, weights: Weights, identity: str) -> None:
        super().__init__(identity)
        self._skips: list[bool] = []
        self.stem = _SameConvolution(weights, "_conv_stem", "_bn0", stride=2)
        self.blocks = nn.ModuleList()
        for repeats, stride in zip(lite0.STAGE_REPEATS, lite0.STAGE_STRIDES, strict=True):
            for repeat in range(repeats):
                if len(self.blocks) <= _LITE0_LAST_BLOCKS[-1]:
                    self._add(weights, f"_blocks.{len(self.blocks)}", 1 if repeat else stride, repeat > 0)

    def stages(self, pictures: torch.Tensor) -> Sequence[torch.Tensor]:
        doubled = functional.interpolate(pictures, scale_factor=2, mode="bilinear", align_corners=False)
        current = self.stem((doubled * 255 - 127) / 128)
        found = []
        for index, (block, is_added) in enumerate(zip(self.blocks, self._skips, strict=True)):
            current = block(current) + current if is_added else block(current)
            if index in _LITE0_LAST_BLOCKS:
                found.append(current)
        return found

    def _add(self, weights: Weights, prefix: str, stride: int, is_added: bool) -> None:  # noqa: FBT001
        layers = []
        if f"{prefix}._expand_conv.weight" in weights:
            layers.append(_SameConvolution(weights, f"{prefix}._expand_conv", f"{prefix}._bn0"))
        layers.append(_SameConvolution(weights, f"{prefix}._depthwise_conv", f"{prefix}._bn1", stride=stride))
        layers.append(
            _SameConvolution(weights, f"{prefix}._project_conv", f"{prefix}._bn2", is_activated=False)
        )
        self.blocks.append(nn.Sequential(*layers))
        self._skips.append(is_added)


class _SameConvolution(nn.Module):
    """A folded convolution with TensorFlow's SAME padding, then ReLU6."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(
        self, weights: Weights, convolution: str, norm: str, *, stride: int = 1, is_activated: bool = True
    ) -> None:
        super().__init__()
        folded = FoldedConvolution.from_weights(weights, convolution, norm, lite0.BATCH_NORM_EPSILON)
        self.register_buffer("weight", torch.from_numpy(folded.weight))
        self.register_buffer("bias", torch.from_numpy(folded.bias))
        self._stride, self._is_activated = stride, is_activated
        self._groups = len(folded.weight) if convolution.endswith("_depthwise_conv") else 1

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        kernel = self.weight.shape[-1]
        rows, columns = (lite0.same_padding(side, kernel, self._stride) for side in pictures.shape[-2:])
        padded = functional.pad(pictures, (*columns, *rows))
        made = functional.conv2d(padded, self.weight, self.bias, self._stride, groups=self._groups)
        return functional.relu6(made) if self._is_activated else made


def open_extractor(choice: str, weights: Path | None) -> FeatureStages:
    """The extractor that a spec asks for, without gradients of its own.

    `vgg16` takes the file `weights` (a state dict in torchvision's format), else torchvision's, which may
    download it; `lite0` is the embedded extractor; `random` is an untrained VGG16 with seed 0. `auto` is
    VGG16 if its weights are given or lie in torch's cache, else the embedded one, else the random one.

    Raises:
        LoadError: if the weights cannot be had or are not those expected.
    """
    if choice == "auto":
        extractor = _best_at_hand(weights)
    elif choice == "vgg16":
        found = weights or cached_vgg16()
        extractor = _downloaded_vgg16() if found is None else _vgg16(found)
    elif choice == "lite0":
        extractor = _lite0()
    else:
        extractor = _random_vgg16()
    return frozen(extractor)


def cached_vgg16() -> Path | None:
    """VGG16's weights in torch's cache, where they are there."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / VGG16_NAME
    return path if path.is_file() else None


def _best_at_hand(weights: Path | None) -> FeatureStages:
    found = weights or cached_vgg16()
    if found is not None:
        return _vgg16(found)
    try:
        return _lite0()
    except LoadError:
        return _random_vgg16()


def _vgg16(path: Path) -> FeatureStages:
    digest = check_digest(path, VGG16_SHA256_PREFIX, f"give the file that torchvision calls {VGG16_NAME}")
    extractor = Vgg16Stages(f"vgg16/{digest[:16]}")
    _fill(extractor, read_weights(path))
    return extractor


def _downloaded_vgg16() -> FeatureStages:
    # Loads only where weights have to be fetched.
    from torchvision.models import VGG16_Weights

    try:
        weights = VGG16_Weights.IMAGENET1K_V1.get_state_dict(check_hash=True)
    except (OSError, RuntimeError) as error:
        raise LoadError(
            f"the weights of VGG16 cannot be downloaded: {reason_of(error)}",
            f"put {VGG16_NAME} somewhere and say vgg16_weights = 'PATH', or say extractor = 'lite0'",
        ) from error
    extractor = Vgg16Stages(f"vgg16/{VGG16_SHA256_PREFIX}")
    _fill(extractor, weights)
    return extractor


def _fill(extractor: Vgg16Stages, weights: dict[str, torch.Tensor]) -> None:
    wanted = extractor.state_dict()
    missing = [name for name in wanted if name not in weights or weights[name].shape != wanted[name].shape]
    if missing:
        raise LoadError(f"the weights of VGG16 have no fitting {missing[0]!r}", "use torchvision's file")
    extractor.load_state_dict({name: weights[name] for name in wanted})


def _lite0() -> FeatureStages:
    return Lite0Stages(load_weights(lite0.locate_weights()), f"lite0/{lite0.WEIGHTS_SHA256[:16]}")


def _random_vgg16() -> FeatureStages:
    extractor = Vgg16Stages("vgg16-shaped, random weights, seed 0")
    generator = torch.Generator().manual_seed(0)
    for parameter in extractor.parameters():
        is_kernel = parameter.dim() == 4
        deviation = (2 / parameter[0].numel()) ** 0.5 if is_kernel else 0.0
        nn.init.normal_(parameter, 0.0, deviation, generator=generator)
    return extractor

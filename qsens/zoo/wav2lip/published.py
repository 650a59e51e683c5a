"""Files of published weights: recognised, and loaded strictly into the network they belong to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from qsens.core.errors import LoadError
from qsens.generators.checkpoint import read_weights

AnyModule = TypeVar("AnyModule", bound=torch.nn.Module)
_COUNTER = "num_batches_tracked"
_ENCODER_STAGES = 7


@dataclass(frozen=True)
class Network:
    """A kind of network that is told by its keys: every text of `marks` begins one of them."""

    title: str
    use: str
    marks: tuple[str, ...]


GENERATOR = Network(
    "a Wav2Lip generator",
    "open it with --model wav2lip",
    ("face_decoder_blocks.", "face_encoder_blocks.", "audio_encoder."),
)
EXPERT = Network(
    "the lip-sync expert (SyncNet_color)",
    "it goes where training asks for the expert",
    ("face_encoder.", "audio_encoder."),
)
DISCRIMINATOR = Network(
    "the visual-quality discriminator",
    "it goes where training asks for the discriminator",
    ("binary_pred.", "face_encoder_blocks."),
)
SYNCNET = Network(
    "the SyncNet of LSE-D and LSE-C (syncnet_v2.model)",
    "it goes where the lip-sync measures ask for SyncNet",
    ("netcnnaud.", "netcnnlip."),
)
FACE_DETECTOR = Network(
    "the S3FD face detector",
    "take the generator's file; both lie side by side in many downloads",
    ("conv3_3_norm.", "conv1_1."),
)
NETWORKS = (GENERATOR, DISCRIMINATOR, SYNCNET, EXPERT, FACE_DETECTOR)


@dataclass(frozen=True)
class Difference:
    """The first key that keeps weights from fitting; texts say what each side has there."""

    key: str
    in_file: str
    wanted: str


def network_in(weights: Mapping[str, torch.Tensor]) -> Network | None:
    """The kind of network that these keys belong to, `None` where it is none of ours."""
    for network in NETWORKS:
        if all(any(key.startswith(mark) for key in weights) for mark in network.marks):
            return network
    return None


def fork_of(weights: Mapping[str, torch.Tensor]) -> str | None:
    """The mark of another family's network, such as a higher-resolution Wav2Lip; `None` without one."""
    if any(key.endswith(".act.weight") for key in weights):
        return "PReLU activations (`act.weight`), where Wav2Lip has ReLU"
    stages = {key.split(".")[1] for key in weights if key.startswith("face_encoder_blocks.")}
    if len(stages) > _ENCODER_STAGES:
        return f"{len(stages)} face-encoder blocks, where the 96-pixel Wav2Lip has {_ENCODER_STAGES}"
    return None


def first_difference(
    wanted: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]
) -> Difference | None:
    """The first key, in the network's order, that is missing, of another shape or no float; then extra keys.

    Batch counters may be missing: files of old torch versions have none.
    """
    for key, tensor in wanted.items():
        if key not in weights:
            if not key.endswith(_COUNTER):
                return Difference(key, "nothing", _shape(tensor))
        elif weights[key].shape != tensor.shape:
            return Difference(key, _shape(weights[key]), _shape(tensor))
        elif weights[key].is_floating_point() != tensor.is_floating_point():
            return Difference(key, str(weights[key].dtype), str(tensor.dtype))
    extra = next((key for key in weights if key not in wanted), None)
    return None if extra is None else Difference(extra, _shape(weights[extra]), "nothing")


def filled(
    maker: Callable[[], AnyModule], weights: Mapping[str, torch.Tensor], checkpoint: Path, *, hint: str
) -> AnyModule:
    """The module that `maker` makes, with these weights (widened to its type), in eval mode.

    Raises:
        LoadError: naming the first key that differs and what both sides have there.
    """
    # Made without weights: drawing random ones takes time and moves the caller's random numbers on.
    with torch.device("meta"):
        module = maker()
    wanted = module.state_dict()
    found = first_difference(wanted, weights)
    if found is not None:
        raise LoadError(
            f"{checkpoint} does not fit: the first key that differs is {found.key!r}, "
            f"{found.in_file} in the file and {found.wanted} in the network",
            hint,
        )
    counters = {key: torch.zeros(value.shape) for key, value in wanted.items() if key not in weights}
    module.to_empty(device="cpu")
    module.load_state_dict({**counters, **weights})
    module.eval()
    return module


def read_network(checkpoint: Path, wanted: Network, *, trust_checkpoint: bool) -> dict[str, torch.Tensor]:
    """Tensors of a file that holds a network of the wanted kind.

    Raises:
        LoadError: for a file that cannot be read, holds another network, or comes from a fork.
    """
    weights = read_weights(checkpoint, trust_checkpoint=trust_checkpoint)
    found = network_in(weights)
    if found is None:
        some = ", ".join(list(weights)[:3]) or "none"
        raise LoadError(
            f"{checkpoint} does not hold {wanted.title}; its keys begin with {some}",
            "check that this is the right file",
        )
    if found is not wanted:
        raise LoadError(f"{checkpoint} holds {found.title}, not {wanted.title}", found.use)
    fork = fork_of(weights)
    if fork is not None:
        raise LoadError(
            f"{checkpoint} holds a fork of Wav2Lip: it has {fork}",
            "qsens has the 96-pixel family only; export the fork to ONNX with its own code, open that file",
        )
    return weights


def open_network(
    maker: Callable[[], AnyModule], checkpoint: Path, wanted: Network, *, trust_checkpoint: bool
) -> AnyModule:
    """Load a network that comes in one size.

    Raises:
        LoadError: as `read_network` and `filled` do.
    """
    weights = read_network(checkpoint, wanted, trust_checkpoint=trust_checkpoint)
    hint = f"the file is not {wanted.title} as published, or was changed since"
    return filled(maker, weights, checkpoint, hint=hint)


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"

"""Networks that a training begins with, or leans on without changing them."""

from pathlib import Path
from typing import TypeVar

from torch import nn

from qsens.core.errors import LoadError, SpecError
from qsens.zoo.wav2lip.expert import LipSyncExpert, open_expert
from qsens.zoo.wav2lip.generator import Wav2Lip
from qsens.zoo.wav2lip.opening import architecture_in
from qsens.zoo.wav2lip.published import GENERATOR, Network, filled, first_difference, read_network

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def load_start(network: nn.Module, path: Path, kind: Network) -> None:
    """Begin with the weights in a file of any format that qsens reads.

    Raises:
        LoadError: naming the first weight that does not fit.
    """
    weights = read_network(path, kind, trust_checkpoint=False)
    wanted = network.state_dict()
    found = first_difference(wanted, weights)
    if found is not None:
        raise LoadError(
            f"{path} is of another variant: the first key that differs is {found.key!r}, {found.in_file} in "
            f"the file and {found.wanted} in the network",
            "set width and residual in the spec as these weights have them",
        )
    network.load_state_dict({**wanted, **weights})


def open_teacher(path: Path | None) -> Wav2Lip:
    """A frozen teacher of any width.

    Raises:
        SpecError: if no file is given.
        LoadError: if the file is no generator.
    """
    if path is None:
        raise SpecError("no teacher to distil from", "give --teacher FILE, or teacher_mode = 'online'")
    weights = read_network(path, GENERATOR, trust_checkpoint=False)
    architecture = architecture_in(weights, path)
    teacher = filled(lambda: Wav2Lip(architecture=architecture), weights, path, hint="the file is incomplete")
    return frozen(teacher)


def open_frozen_expert(path: Path | None) -> LipSyncExpert:
    """The lip-sync expert, frozen.

    Raises:
        SpecError: if no file is given.
        LoadError: if the file is not an expert.
    """
    if path is None:
        raise SpecError(
            "the sync loss needs a lip-sync expert",
            "give --expert FILE (train one with `qsens zoo train expert`), or sync = 'none'",
        )
    return frozen(open_expert(path))


def frozen(network: AnyModule) -> AnyModule:
    """The network in eval mode, its parameters without gradients."""
    network.eval().requires_grad_(requires_grad=False)
    return network

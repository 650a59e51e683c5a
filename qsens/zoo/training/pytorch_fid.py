"""pytorch-fid itself, the independent implementation that tests and benchmarks compare with.

Scoring never imports it: torchvision's compiled operators often do not match a CPU torch.
"""

from __future__ import annotations

import importlib
from typing import Any

from qsens.scoring.cpu_torchvision import import_torchvision


def untrained_inception() -> Any:
    """pytorch-fid's `InceptionV3` module with random weights of a scale that keeps activations alive.

    The weights are seeded by torch's generator; its state dict under the published names is
    `published_state(module)`.
    """
    import_torchvision()
    import torch  # deferred: heavy

    inception: Any = importlib.import_module("pytorch_fid.inception")
    original = inception._inception_v3, inception.load_state_dict_from_url
    trunk: list[Any] = []

    def build(*arguments: Any, **options: Any) -> Any:
        network = original[0](*arguments, **options)
        network.load_state_dict = lambda _: None
        trunk.append(network)
        return network

    try:
        inception._inception_v3 = build
        inception.load_state_dict_from_url = lambda *_, **__: {}
        module = inception.InceptionV3().eval()
    finally:
        inception._inception_v3, inception.load_state_dict_from_url = original
    for part in trunk[0].modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.weight, 0.8, 1.2)
            torch.nn.init.uniform_(part.bias, -0.2, 0.2)
            torch.nn.init.uniform_(part.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(part.running_var, 0.8, 1.2)
    module.trunk = trunk[0]
    return module


def published_state(module: Any) -> dict[str, Any]:
    """State dict of `untrained_inception`'s network under the names of the published weights file."""
    state: dict[str, Any] = module.trunk.state_dict()
    return state

"""torchvision beside a CPU build of torch."""

from __future__ import annotations

import importlib
import sys
from typing import Any

MISSING_OPERATOR = "torchvision::nms"


def import_torchvision() -> Any:
    """torchvision, with its detection operators declared (but not runnable) where they were not loaded.

    A torchvision wheel linked to CUDA fails to import beside a CPU torch, because its Python code describes
    operators that the library, which could not be opened, would have registered.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if MISSING_OPERATOR not in str(error):
            raise
    import torch  # deferred: heavy, and only the failed import needs it

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    declared = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        declared.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torchvision: Any = importlib.import_module("torchvision")
    # The declarations live as long as this object.
    torchvision.declared_operators = declared
    return torchvision

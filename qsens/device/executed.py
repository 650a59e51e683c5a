"""What a built engine says about itself: the layers that it really executes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping, Protocol

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ExecutedLayer:
    """One step of an engine as its runtime describes it.

    `name` is the engine's own name. `nodes` are the ONNX nodes computed in it, empty where the runtime does
    not tell. `precision` is `int8`, `fp16` or `fp32` of the arithmetic, `None` where the runtime does not
    tell. `kernel` is the runtime's word for what runs it. `is_reformat` marks steps that only change type
    or layout. `note` says what a reader must know about its numbers (`saturates`), empty where nothing.
    """

    name: str
    nodes: tuple[str, ...]
    precision: str | None
    kernel: str
    is_reformat: bool = False
    note: str = ""


class DeviceEngine(Protocol):
    """An engine that is loaded and ready to run.

    `runtime` is the runtime's name, `version` its version, `size_bytes` what the deployed file holds.
    """

    runtime: str
    version: str
    size_bytes: int

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name for inputs with their batch axis.

        Raises:
            DeviceError: with the runtime's own words.
        """
        ...

    def executed_layers(self) -> tuple[ExecutedLayer, ...]:
        """What the engine holds, in execution order; empty where the runtime does not tell."""
        ...

    def step_times_ms(self, feeds: Mapping[str, Array], repeats: int) -> dict[str, float]:
        """Median milliseconds by name of the executed layer; empty where the runtime has no profile."""
        ...

    def close(self) -> None: ...

"""Ranges of the generator's tensors: what calibration measured, once, for every precision map."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from qsens.core.errors import DataError


@dataclass(frozen=True)
class TensorRange:
    """What calibration saw of one tensor.

    `amax` is the chosen symmetric clipping threshold (`method`), a float32 value; the INT8 scale is
    `amax / 127`, which FP16 holds exactly unless it is below 2^-14. `minimum` and `maximum` are the plain
    extremes, used for overflow warnings.
    """

    tensor: str
    minimum: float
    maximum: float
    amax: float


@dataclass(frozen=True)
class Ranges:
    """Ranges of all calibrated tensors over `samples` samples, by one `method`.

    `digest` covers the graph, the calibration samples and the method: equal digests mean equal ranges.
    """

    method: str
    samples: int
    digest: str
    tensors: tuple[TensorRange, ...] = field(repr=False)

    @cached_property
    def _by_name(self) -> Mapping[str, TensorRange]:
        return {entry.tensor: entry for entry in self.tensors}

    def __getitem__(self, tensor: str) -> TensorRange:
        """Raises `DataError` for a tensor that was not calibrated."""
        try:
            return self._by_name[tensor]
        except KeyError:
            raise DataError(
                f"no range for tensor {tensor!r}", "the graph changed after calibration: calibrate again"
            ) from None

    def __contains__(self, tensor: str) -> bool:
        return tensor in self._by_name

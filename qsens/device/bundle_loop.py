"""The loop of a bundle: its table in `bundle.json`, opened for the inputs and the batch of an engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from qsens.device.errors import DeviceError
from qsens.device.loops import Network, Once, Port, Recurrent
from qsens.device.plain_values import PlainValue
from qsens.device.samplers import Sampler

if TYPE_CHECKING:
    from qsens.device.bundle_files import BundleInput

_KINDS: Mapping[str, Any] = {kind.name: kind for kind in (Recurrent, Sampler)}
LOOPS = tuple(_KINDS)


@dataclass(frozen=True)
class BundleLoop:
    """A loop by name, its options, and the inputs of which goldens hold a value for each sample."""

    name: str
    options: Mapping[str, Any]
    samples: tuple[str, ...]

    def open(self, inputs: Sequence[BundleInput], outputs: Sequence[str], batch: int) -> Any:
        """The loop for a network of these inputs and outputs, so many samples a call.

        Raises:
            DeviceError: for options that it does not know or cannot use.
        """
        ports = (Port(one.name, one.dtype, one.shape, one.is_batched, one.shape) for one in inputs)
        network = Network(tuple(ports), tuple(outputs), batch)
        try:
            return _KINDS[self.name](network=network, **self.options)
        except (TypeError, ValueError) as error:
            raise DeviceError(
                f"the options of the loop: {error}", "copy or export the bundle again"
            ) from error


ONCE = Once()


def opened_loop(
    loop: BundleLoop | None, inputs: Sequence[BundleInput], outputs: Sequence[str], batch: int
) -> Any:
    """The loop, or one call a picture where there is none. Raises as `BundleLoop.open`."""
    return ONCE if loop is None else loop.open(inputs, outputs, batch)


def read_bundle_loop(document: PlainValue) -> BundleLoop | None:
    """The loop of a bundle's document; `None` in one without. Raises `ValueError` for what is none."""
    if document.value.get("loop") is None:
        return None
    loop = document.at("loop")
    options = loop.at("options")
    list(options.entries())
    names = tuple(entry.text() for entry in loop.at("samples").items(at_least=1))
    return BundleLoop(loop.at("name").one_of(LOOPS), options.value, names)

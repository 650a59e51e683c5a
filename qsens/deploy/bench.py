"""The measuring of `qsens.device.bench` for callers here: its errors are those of the command line."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from qsens.core.errors import BuildError, QsensError
from qsens.device import bench as measuring
from qsens.device.errors import DeviceError


@contextmanager
def alone(say: Callable[[str], None], path: Path = measuring.LOCK) -> Iterator[None]:
    """As `qsens.device.bench.alone`. Raises `QsensError` if the lock belongs to another user."""
    try:
        with measuring.alone(say, path):
            yield
    except DeviceError as error:
        raise QsensError(error.message, error.hint) from error


def bench(
    subjects: Sequence[measuring.Subject],
    feeds: Callable[[int], measuring.Feeds],
    settings: measuring.BenchSettings,
    *,
    on_gpu: bool = False,
    progress: measuring.Progress,
) -> measuring.BenchResult:
    """As `qsens.device.bench.bench`. Raises `BuildError` if no map could be measured at all."""
    try:
        return measuring.bench(subjects, feeds, settings, on_gpu=on_gpu, progress=progress)
    except DeviceError as error:
        raise BuildError(error.message, error.hint) from error

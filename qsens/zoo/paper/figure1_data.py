"""Numbers behind Figure 1: what classifiers and talking-face generators cost for one picture."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from qsens.zoo.paper.classifiers import CLASSIFIERS, SIDE
from qsens.zoo.paper.operations import Work, work_of
from qsens.zoo.paper.published import published
from qsens.zoo.wav2lip.generator import Wav2Lip
from qsens.zoo.wav2lip.variants import variant_named

FRAMES_PER_SECOND = 25
GENERATORS = (
    ("student", "x0.25, residual layers removed"),
    ("student-residual", "x0.25, residual layers kept"),
    ("cut-inner", "inner layers cut (a guess of its widths)"),
    ("teacher", "Wav2Lip"),
)


@dataclass(frozen=True)
class Network:
    """One network of the figure. `published_macs` are in the convention of who publishes them."""

    name: str
    title: str
    is_generator: bool
    work: Work
    published_macs: float | None
    published_source: str

    @property
    def macs_per_second(self) -> int:
        """True multiply-accumulates of a second of video, one run a frame."""
        return self.work.macs * FRAMES_PER_SECOND


def networks() -> tuple[Network, ...]:
    """Classifiers at 224x224, then talking-face generators at 96x96, each from small to large.

    Shapes decide the count: nothing is downloaded and no weights are drawn.
    """
    return (*_classifiers(), *_generators())


def _classifiers() -> Iterator[Network]:
    for known in CLASSIFIERS:
        work = _counted(known.make, lambda _: {"input": torch.empty(1, 3, SIDE, SIDE)})
        yield Network(known.name, known.title, False, work, round(known.giga_macs * 1e9), known.source)  # noqa: FBT003


def _generators() -> Iterator[Network]:
    for name, title in GENERATORS:
        known = published(name, "macs")
        work = _counted(partial(Wav2Lip, architecture=variant_named(name)), Wav2Lip.example_inputs)
        value, source = (None, "") if known is None else (known.value, known.source)
        yield Network(name, title, True, work, value, source)  # noqa: FBT003


def _counted(maker: Callable[[], Any], inputs: Callable[[Any], Any]) -> Work:
    with torch.device("meta"):
        module = maker()
    return work_of(module, {name: value.to("meta") for name, value in inputs(module).items()})

"""Figure 1 with its numbers: multiply-accumulates of classifiers against talking-face generators."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from qsens.report.figures.style import (
    BLUE,
    FAINT,
    GRID,
    INK,
    SMALL,
    TEXT,
    VERMILION,
    add_header,
    marker_handle,
    new_figure,
    plain_number,
)
from qsens.zoo.paper.classifiers import CLASSIFIERS, SIDE, Work, work_of
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
_GIGA = 1e9
_ROW_HEIGHT = 0.42
_TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
_NOTE = (
    "One picture: 224x224 for classifiers, one 96x96 frame with its sound for generators. The paper's count "
    "takes transposed convolutions at output resolution and adds one for each output element of a batch "
    "normalisation. A classifier runs once a picture, a generator 25 times a second of video (upper axis)."
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


def figure1(networks: Sequence[Network]) -> Figure:
    """One row a network on a logarithmic axis, classifiers above generators."""
    shown = list(networks)
    figure = new_figure(9.5, 1.9 + _ROW_HEIGHT * len(shown))
    axes = figure.subplots()
    _dress(axes, shown)
    for place, network in enumerate(shown):
        _draw_row(axes, place, network)
    generators = sum(network.is_generator for network in shown)
    if 0 < generators < len(shown):
        axes.axhline(len(shown) - generators - 0.5, color=FAINT, linewidth=0.8)
    handles = {
        "true multiply-accumulates": marker_handle("o", BLUE, BLUE, 7),
        "the paper's way of counting": marker_handle("D", BLUE, "white", 6),
        "published": marker_handle("|", VERMILION, VERMILION, 13),
    }
    add_header(
        figure, "Figure 1. What one picture costs: classifiers and talking-face generators", handles, _NOTE
    )
    return figure


def _dress(axes: Axes, networks: Sequence[Network]) -> None:
    costs = [network.work.macs / _GIGA for network in networks]
    axes.set_xscale("log")
    axes.set_xlim(min(costs) / 1.5, max(costs) * 2.4)
    axes.xaxis.set_major_locator(FixedLocator(_TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
    axes.set_xlabel("multiply-accumulates a picture, in billions (logarithmic)", fontsize=TEXT, color=INK)
    axes.set_ylim(len(networks) - 0.5, -0.5)
    axes.set_yticks(range(len(networks)), [network.title for network in networks], fontsize=TEXT - 0.5)
    for label, network in zip(axes.get_yticklabels(), networks, strict=True):
        label.set_color(BLUE if network.is_generator else INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(labelsize=SMALL + 0.5, length=3)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    _second_axis(axes)


def _second_axis(axes: Axes) -> None:
    upper = axes.secondary_xaxis("top", functions=(_of_a_second, _of_a_frame))
    upper.xaxis.set_major_locator(FixedLocator([tick * FRAMES_PER_SECOND for tick in _TICKS]))
    upper.xaxis.set_minor_locator(NullLocator())
    upper.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
    upper.set_xlabel(f"a second of video, {FRAMES_PER_SECOND} frames", fontsize=SMALL + 0.5, color=FAINT)
    upper.tick_params(labelsize=SMALL, length=3, colors=FAINT)
    upper.spines["top"].set_color(GRID)


def _of_a_second(cost: Any) -> Any:
    return cost * FRAMES_PER_SECOND


def _of_a_frame(cost: Any) -> Any:
    return cost / FRAMES_PER_SECOND


def _draw_row(axes: Axes, place: int, network: Network) -> None:
    colour = BLUE if network.is_generator else FAINT
    true, paper = network.work.macs / _GIGA, network.work.macs_paper / _GIGA
    axes.plot([true, paper], [place, place], color=colour, linewidth=1.6, zorder=2)
    if network.published_macs is not None:
        axes.plot(
            network.published_macs / _GIGA, place, "|", color=VERMILION, markersize=15, markeredgewidth=1.6,
            zorder=3,
        )  # fmt: skip
    if not _counts_agree(network):
        axes.plot(paper, place, "D", color=colour, markerfacecolor="white", markersize=6, zorder=4)
    axes.plot(true, place, "o", color=colour, markersize=7, zorder=5)
    axes.annotate(
        cost_text(network),
        (max(true, paper), place),
        xytext=(11, 0),
        textcoords="offset points",
        va="center",
        fontsize=SMALL,
        color=INK,
    )


def cost_text(network: Network) -> str:
    """`3.97 (paper's count 6.21)` in billions; one number where the two counts are within 5%."""
    true, paper = network.work.macs / _GIGA, network.work.macs_paper / _GIGA
    return f"{true:.3g}" if _counts_agree(network) else f"{true:.3g} (paper's count {paper:.3g})"


def _counts_agree(network: Network) -> bool:
    return network.work.macs_paper < 1.05 * network.work.macs

"""A map that its target cannot run as it was scored: said before anything is written, or refused."""

from collections.abc import Callable
from dataclasses import dataclass

from qsens.core.errors import BuildError
from qsens.core.layer import macs_share
from qsens.core.precision import Precision
from qsens.core.targets import Target
from qsens.deploy.chosen_map import ChosenMap
from qsens.engines.float_fallback import AgreedGraph
from qsens.run.reopen import ReopenedRun
from qsens.run.target import MOST_SHOWN, placement_hint


@dataclass(frozen=True)
class ChangedMap:
    """The layers that go back to float, a line each, and the shares of the multiply-accumulates in INT8.

    `hint` is what would keep more of them in INT8, empty where nothing would.
    """

    trial: int
    target: Target
    lines: tuple[str, ...]
    asked: float
    left: float
    hint: str

    @property
    def count(self) -> str:
        """The number of layers in words."""
        return f"{len(self.lines)} layer{'s' if len(self.lines) > 1 else ''}"

    @property
    def shown(self) -> tuple[str, ...]:
        """The lines, of many layers the first ones and how many more there are."""
        more = len(self.lines) - MOST_SHOWN
        return (*self.lines[:MOST_SHOWN], *([f"  and {more} more"] if more > 0 else []))

    def say_first(self, hear: Callable[[str], None], *, is_allowed: bool) -> None:
        """Tell what changes. Raises `BuildError` unless that is allowed."""
        if not is_allowed:
            raise self._refusal()
        hear(f"Warning: {self.count} that should run in INT8 will be exported in float:")
        for line in self.shown:
            hear(line)
        hear(
            f"  INT8 share of the multiply-accumulates: {100 * self.asked:.1f}% asked, "
            f"{100 * self.left:.1f}% exported; the scores are those of the map that was asked for"
        )
        if self.left == 0.0 < self.asked:
            hear(f"  Nothing is left in INT8: {self.target.title} gains nothing from this map")
        if self.hint:
            hear(f"  {self.hint}")

    def _refusal(self) -> BuildError:
        more = f". {self.hint}" if self.hint else ""
        return BuildError(
            f"{self.target.title} cannot run {self.count} of trial {self.trial} in INT8: of "
            f"{100 * self.asked:.1f}% of the multiply-accumulates {100 * self.left:.1f}% would be left, in a "
            "map that was not scored; nothing was written:\n" + "\n".join(self.shown),
            f"qsens sweep --for {self.target.name} --out NEW offers only what it can run; "
            f"--float-fallback exports these layers in float{more}",
        )


def changed_map(
    run: ReopenedRun, chosen: ChosenMap, target: Target, agreed: AgreedGraph
) -> ChangedMap | None:
    """The change from the chosen map to what ships; `None` where there is none."""
    if not agreed.returned:
        return None
    layers, names = run.graph.layers, {entry.layer for entry in agreed.returned}
    return ChangedMap(
        trial=chosen.trial.number,
        target=target,
        lines=tuple(f"  {entry.layer} ({entry.node}): {entry.reason}" for entry in agreed.returned),
        asked=macs_share(layers, chosen.precision_map, Precision.INT8),
        left=macs_share(layers, agreed.deployed, Precision.INT8),
        hint=placement_hint(target, run.spec.placement, [layer for layer in layers if layer.name in names]),
    )

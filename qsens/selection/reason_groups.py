"""Reasons of many layers as a few lines: equal ones of neighbours together, then those of one kind."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from qsens.core.layer import Layer
from qsens.selection.reasons import Reason, ReasonKind

MOST_GROUPS = 10
_MOST_RUNS = 3
_MOST_TRIALS = 5
_OF_SEVERAL = {
    ReasonKind.NOT_AS_ASKED: "the engine runs them in another precision than was asked",
    ReasonKind.PINNED: "pinned, or not allowed in INT8",
    ReasonKind.OVERFLOW: "FP16 overflows in each of them",
    ReasonKind.FAILED: "trials with them in INT8 failed",
    ReasonKind.ADDED: "each was tried in INT8 on top of the chosen map, which is beyond the limits then",
    ReasonKind.ALONE: "each goes beyond the limits where it, or some of its block, alone is in INT8",
    ReasonKind.ALSO_WITHIN: "with each of them in INT8 too the limits are kept, or seem so on a few images",
    ReasonKind.ALL_BUT: "sparing each of them takes much of the damage off INT8 everywhere",
    ReasonKind.SUBSET: "each goes beyond the limits with some of the chosen map's INT8 layers",
    ReasonKind.COST: "each alone costs a part of what is allowed",
    ReasonKind.BEHIND: "next to the chosen map tried in INT8 only on top of what is too much already",
    ReasonKind.TOGETHER: "next to the chosen map tried in INT8 only with many others, beyond the limits",
    ReasonKind.UNTRIED: "no trial tells",
    ReasonKind.INT8: "within the limits as part of the chosen map",
}


@dataclass(frozen=True)
class ReasonGroup:
    """Layers that share a reason: their names in words, and the text with the trials that it names."""

    layers: tuple[str, ...]
    names: str
    text: str
    trials: tuple[int, ...]


_Member = tuple[int, Reason]


def fold_reasons(
    layers: Sequence[Layer], reasons: Mapping[str, Reason], most: int = MOST_GROUPS
) -> tuple[ReasonGroup, ...]:
    """The layers that `reasons` names, in order, neighbours with equal texts in one group without details.

    Where that makes more than `most` groups, neighbours with reasons of one kind share a group and a text
    that is true of all; where it still does, all layers with reasons of one kind.
    """
    members = [(place, reasons[layer.name]) for place, layer in enumerate(layers) if layer.name in reasons]
    ways: tuple[Callable[[list[_Member]], list[list[_Member]]], ...] = (
        lambda members: _neighbours(members, lambda reason: reason.text),
        lambda members: _neighbours(members, lambda reason: reason.kind),
        _of_one_kind,
    )
    groups: list[list[_Member]] = []
    for way in ways:
        groups = way(members)
        if len(groups) <= most:
            break
    return tuple(_group(layers, group) for group in groups)


def _neighbours(members: Sequence[_Member], key: Callable[[Reason], str]) -> list[list[_Member]]:
    groups: list[list[_Member]] = []
    for place, reason in members:
        last = groups[-1][-1] if groups else None
        if last is not None and last[0] + 1 == place and key(last[1]) == key(reason):
            groups[-1].append((place, reason))
        else:
            groups.append([(place, reason)])
    return groups


def _of_one_kind(members: Sequence[_Member]) -> list[list[_Member]]:
    groups: dict[ReasonKind, list[_Member]] = {}
    for place, reason in members:
        groups.setdefault(reason.kind, []).append((place, reason))
    return list(groups.values())


def _group(layers: Sequence[Layer], members: Sequence[_Member]) -> ReasonGroup:
    texts = {reason.text for _, reason in members}
    trials = tuple(sorted({number for _, reason in members for number in reason.trials}))
    text = texts.pop() if len(texts) == 1 else f"{_OF_SEVERAL[members[0][1].kind]}{_trials_text(trials)}"
    names = tuple(layers[place].name for place, _ in members)
    return ReasonGroup(names, _names(layers, [place for place, _ in members]), text, trials)


def _names(layers: Sequence[Layer], places: Sequence[int]) -> str:
    """`a to c (3 layers), e`; of more than three runs how many layers the others are."""
    runs: list[list[int]] = []
    for place in places:
        if runs and runs[-1][-1] + 1 == place:
            runs[-1].append(place)
        else:
            runs.append([place])
    shown = [_run_text(layers, run) for run in runs[:_MOST_RUNS]]
    others = sum(len(run) for run in runs[_MOST_RUNS:])
    return ", ".join([*shown, *([f"{others} more"] if others else [])])


def _run_text(layers: Sequence[Layer], run: Sequence[int]) -> str:
    first, last = layers[run[0]].name, layers[run[-1]].name
    return first if len(run) == 1 else f"{first} to {last} ({len(run)} layers)"


def _trials_text(numbers: Sequence[int]) -> str:
    if not numbers:
        return ""
    shown = ", ".join(map(str, numbers[:_MOST_TRIALS]))
    more = f" and {len(numbers) - _MOST_TRIALS} more" if len(numbers) > _MOST_TRIALS else ""
    return f" ({'trial' if len(numbers) == 1 else 'trials'} {shown}{more})"

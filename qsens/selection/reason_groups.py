"""Reasons of many layers as a few lines: equal ones of neighbours together, then those of one kind."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from qsens.core.layer import Layer
from qsens.selection.reasons import AFTER_REPAIR, Reason, ReasonKind

MOST_GROUPS = 10
_MOST_RUNS = 3
_MOST_TRIALS = 5
_OF_SEVERAL = {
    ReasonKind.COSTLY: "each is too much with no other layer beside the chosen map's in INT8",
    ReasonKind.TOGETHER: "each is too much together with others, or costs what the chosen map does not leave",
    ReasonKind.FREE: "the limits are kept with each of them in INT8 too",
    ReasonKind.NOT_TRIED: "no full score tells of them next to the chosen map",
    ReasonKind.CANNOT: "pinned, or the engine does not build or run them in INT8",
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
    """The layers that `reasons` names, in order, neighbours with equal texts in one group.

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
    repaired = f"{AFTER_REPAIR}: " if all(AFTER_REPAIR in text for text in texts) else ""
    of_several = f"{repaired}{_OF_SEVERAL[members[0][1].kind]}{_trials_text(trials)}"
    text = texts.pop() if len(texts) == 1 else of_several
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

"""The weights in a checkpoint that fit a module, wherever the file keeps them, matched against its keys."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qsens.core.errors import LoadError, SpecError
from qsens.generators.checkpoint import HeldTensors
from qsens.generators.normalised_weights import normalisation_of, other_spellings

if TYPE_CHECKING:
    import torch

_LISTED = 3
_MOST_CHOICES = 8
_OPTION = "--option model.weights="
# What trainers and profilers keep beside weights under the same names; a network computes without it.
_COUNTERS = frozenset({
    "num_batches_tracked", "n_averaged", "total_ops", "total_params", "num_updates", "decay", "initted",
    "step", "global_step", "epoch", "iteration", "latent_avg", "mean_latent", "dlatent_avg", "w_avg",
})  # fmt: skip
# The ones of modules themselves, which may be missing: any other is a value that the module computes with.
_UNUSED = frozenset({"num_batches_tracked", "total_ops", "total_params"})
# Modules around another one, whose own part is in its names: DataParallel, compile, FSDP, checkpointing.
_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_OTHER_NETWORK = re.compile(r"(?i)net_?d(_\w+)?|d|disc\w*|critic\w*|d_ema")
_OPTIMISER = re.compile(
    r"(?i)(\w+_)?optim(s|izers?|isers?)?(_\w+)?|exp_avg\w*|max_exp_avg_sq|momentum_buffer"
)
_SHARD = re.compile(r".*-\d{5}-of-\d{5}\.\w+")


@dataclass(frozen=True, eq=False)
class FittingWeights:
    """Tensors by the module's own keys, and a sentence on where in the file they were."""

    tensors: Mapping[str, torch.Tensor]
    note: str


@dataclass(frozen=True, eq=False)
class _OwnTensors:
    """A module's tensors by key; `tied` are the keys of one tensor, by each; `trained` counts parameters."""

    by_key: Mapping[str, torch.Tensor]
    tied: Mapping[str, frozenset[str]]
    trained: int

    @classmethod
    def of(cls, module: torch.nn.Module) -> _OwnTensors:
        by_key = dict(module.state_dict())
        groups: dict[object, set[str]] = {}
        for key, tensor in by_key.items():
            place = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else key
            groups.setdefault(place, set()).add(key)
        tied = {key: frozenset(group) for group in groups.values() for key in group}
        return cls(by_key, tied, len(list(module.parameters())))


@dataclass(frozen=True, eq=False)
class _Candidate:
    """The tensors whose names are `prefix` and one of the module's keys; `aside` are counters beside them."""

    prefix: str
    tensors: Mapping[str, torch.Tensor]
    aside: tuple[str, ...]
    problems: Mapping[str, list[str]]

    @property
    def path(self) -> str:
        return self.prefix.rstrip(".")

    @property
    def title(self) -> str:
        return repr(self.path) if self.path else "the tensors at its top"

    @property
    def fits(self) -> bool:
        return not any(self.problems.values())

    def rank(self) -> tuple[int, int, int]:
        """Order of near misses: most keys with the right shape first, then least that is left over."""
        wrong = sum(len(self.problems[what]) for what in ("of another shape", "of another type"))
        return wrong - len(self.tensors), len(self.problems["unexpected"]), len(self.prefix)

    def equals(self, other: _Candidate) -> bool:
        import torch  # heavy, and an optional extra

        return self.tensors.keys() == other.tensors.keys() and all(
            torch.equal(tensor, other.tensors[key]) for key, tensor in self.tensors.items()
        )


def fitting_weights(
    module: torch.nn.Module, held: HeldTensors, checkpoint: Path, *, wanted: str | None = None
) -> FittingWeights:
    """The weights of the module among all that a file holds; `wanted` names the dict or prefix to take.

    Raises:
        LoadError: if none fit, listing the first keys that differ in the nearest; if different ones fit.
        SpecError: for a `wanted` that is not there.
    """
    own = _OwnTensors.of(module)
    spelled = other_spellings(held.tensors.keys(), own.by_key)
    held = held.renamed(spelled) if spelled else held
    candidates = _candidates(own, held.tensors, held.folders)
    if not any(candidate.fits for candidate in candidates):
        bare = {_unwrapped(name): tensor for name, tensor in held.tensors.items()}
        if len(bare) == len(held.tensors):
            folders = {_unwrapped(name): _unwrapped(folder) for name, folder in held.folders.items()}
            candidates = _candidates(own, bare, folders)
            wanted = None if wanted is None else _unwrapped(f"{wanted}.").rstrip(".")
    if wanted is not None:
        candidates = _named(wanted, candidates, checkpoint)
    else:
        candidates = _of_the_generator(own, candidates)
    fitting = _different([candidate for candidate in candidates if candidate.fits])
    unnamed = [name for name, count in held.lists.items() if count == own.trained]
    if not fitting:
        raise _no_fit(own, candidates, held, checkpoint, unnamed)
    chosen = _chosen(fitting, checkpoint, is_named=wanted is not None)
    parts = [_read(chosen, own, checkpoint)]
    if spelled:
        parts.append(
            f"its {normalisation_of(spelled)} is named as another way of torch does, and was renamed"
        )
    if wanted is None:
        parts += _others(chosen, fitting, candidates)
        parts += [f"{name!r} has as many, but no names to match them by" for name in unnamed[:_LISTED]]
    return FittingWeights(chosen.tensors, "; ".join(parts))


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _candidates(
    own: _OwnTensors, tensors: Mapping[str, torch.Tensor], folders: Mapping[str, str]
) -> list[_Candidate]:
    """One for each prefix under which the file has some of the module's keys; near ones first."""
    found: dict[str, dict[str, str]] = {}
    for name in tensors:
        parts = name.split(".")
        for start in range(len(parts)):
            key = ".".join(parts[start:])
            if key in own.by_key:
                found.setdefault(name.removesuffix(key), {})[key] = name
    made = []
    for prefix, names in found.items():
        taken = {key: tensors[name] for key, name in names.items()}
        used, same_dicts = set(names.values()), {folders[name] for name in names.values()}
        left = [
            name.removeprefix(prefix)
            for name in tensors
            if name.startswith(prefix) and name not in used and folders[name] in same_dicts
        ]
        aside = tuple(filter(_is_counter, left))
        unexpected = [key for key in left if not _is_counter(key)]
        made.append(_Candidate(prefix, taken, aside, _problems(own, taken, unexpected)))
    return sorted(made, key=_Candidate.rank)


def _is_counter(key: str) -> bool:
    return _last(key) in _COUNTERS


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _problems(
    own: _OwnTensors, tensors: Mapping[str, torch.Tensor], unexpected: Sequence[str]
) -> dict[str, list[str]]:
    """The reason that tensors do not fit; unused counts may be missing, and all but one of tied weights."""
    problems: dict[str, list[str]] = {
        "missing": [
            key for key in own.by_key if not own.tied[key] & tensors.keys() and _last(key) not in _UNUSED
        ],
        "unexpected": list(unexpected),
        "of another shape": [],
        "of another type": [],
        "different here and one tensor in the module": [],
    }
    for key, tensor in tensors.items():
        mine = own.by_key[key]
        twin = tensors[min(own.tied[key] & tensors.keys())]
        if tensor.shape != mine.shape:
            text = f"{key} ({_by(tensor)} in the file, {_by(mine)} in the module)"
            problems["of another shape"].append(text)
        elif not _keeps_values(tensor, mine) and _last(key) not in _UNUSED:
            problems["of another type"].append(
                f"{key} ({_type(tensor)} in the file, {_type(mine)} in the module)"
            )
        elif twin is not tensor and not _equal(twin, tensor):
            problems["different here and one tensor in the module"].append(key)
    return problems


def _keeps_values(tensor: torch.Tensor, mine: torch.Tensor) -> bool:
    """Whether the module's type holds them: floats for floats, whole numbers for whole numbers."""
    if not tensor.is_floating_point():
        return not mine.is_floating_point()
    if mine.is_floating_point():
        return True
    return _equal(tensor, tensor.to(mine.dtype).to(tensor.dtype))


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    import torch  # heavy, and an optional extra

    return bool(torch.equal(one, other))


def _by(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _type(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _named(wanted: str, candidates: Sequence[_Candidate], checkpoint: Path) -> list[_Candidate]:
    exact = [candidate for candidate in candidates if candidate.path == wanted]
    below = [candidate for candidate in candidates if candidate.prefix.startswith(f"{wanted}.")]
    if not exact and not below:
        listed = ", ".join(repr(entry.path) for entry in candidates[:_MOST_CHOICES] if entry.path)
        raise SpecError(
            f"{checkpoint} has no weights of the module under {wanted!r}",
            f"it has some under {listed}" if listed else f"leave {_OPTION}... out: it has them at its top",
        )
    return exact or below


def _different(fitting: Sequence[_Candidate]) -> list[_Candidate]:
    """Those that fit, the same values once."""
    kept: list[_Candidate] = []
    for candidate in sorted(fitting, key=lambda entry: len(entry.prefix)):
        if not any(candidate.equals(other) for other in kept):
            kept.append(candidate)
    return kept


def _of_the_generator(own: _OwnTensors, candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """Those not named after an optimiser; nor after another network, if most of the generator's are there."""
    weights = [candidate for candidate in candidates if not _is_named(candidate, _OPTIMISER)]
    generators = [candidate for candidate in weights if not _is_named(candidate, _OTHER_NETWORK)]
    return generators if any(2 * len(entry.tensors) > len(own.by_key) for entry in generators) else weights


def _is_named(candidate: _Candidate, pattern: re.Pattern[str]) -> bool:
    return any(pattern.fullmatch(part) for part in candidate.path.split("."))


def _chosen(fitting: Sequence[_Candidate], checkpoint: Path, *, is_named: bool) -> _Candidate:
    """The only one, or the one that lies where `torch.save(module.state_dict())` and Lightning put it.

    Raises:
        LoadError: if there are several and none of them lies there.
    """
    if len(fitting) == 1:
        return fitting[0]
    usual = {_unwrapped(candidate.prefix): candidate for candidate in reversed(fitting)}
    for prefix in ("state_dict.", ""):
        if prefix in usual and not is_named:
            return usual[prefix]
    paths = [candidate.path for candidate in fitting if candidate.path][:_MOST_CHOICES]
    averaged = next((path for path in paths if "ema" in path.lower()), paths[0])
    raise LoadError(
        f"{checkpoint} holds different weights that fit the module: {', '.join(paths)}",
        f"say which: {_OPTION}{averaged}",
    )


def _read(chosen: _Candidate, own: _OwnTensors, checkpoint: Path) -> str:
    where = f"under {chosen.path!r}" if chosen.path else "at its top"
    text = f"read {len(chosen.tensors)} tensors of {checkpoint.name}, {where}"
    types = {
        _type(tensor)
        for key, tensor in chosen.tensors.items()
        if tensor.is_floating_point() and tensor.dtype != own.by_key[key].dtype
    }
    if types:
        text += f", {' and '.join(sorted(types))} read as float32"
    if chosen.aside:
        more = ", ..." if len(chosen.aside) > _LISTED else ""
        text += f", without {', '.join(chosen.aside[:_LISTED])}{more}"
    return text


def _others(chosen: _Candidate, fitting: Sequence[_Candidate], candidates: Sequence[_Candidate]) -> list[str]:
    """Parts of a sentence on what else there is: weights that fit too, and averages without buffers."""
    parts = []
    others = [entry for entry in fitting if entry is not chosen]
    if others:
        listed = ", ".join(entry.title for entry in others[:_MOST_CHOICES])
        path = next((entry.path for entry in others if entry.path), "")
        take = f" (take them with {_OPTION}{path})" if path else ""
        parts.append(f"{listed} would fit too and have other values{take}")
    parts += [
        f"{entry.title} lack {len(entry.problems['missing'])} of the module's keys"
        for entry in candidates
        if set(_what(entry.problems)) == {"missing"} and 2 * len(entry.tensors) >= len(chosen.tensors)
    ]
    return parts


def _what(problems: Mapping[str, list[str]]) -> list[str]:
    return [what for what, keys in problems.items() if keys]


def _no_fit(
    own: _OwnTensors,
    candidates: Sequence[_Candidate],
    held: HeldTensors,
    checkpoint: Path,
    unnamed: Sequence[str],
) -> LoadError:
    if not candidates:
        some, mine = (", ".join(list(names)[:_LISTED]) for names in (held.tensors, own.by_key))
        return LoadError(
            f"{checkpoint} has none of the module's keys; its own begin with {some or 'nothing'}, the "
            f"module's with {mine or 'nothing'}",
            _hint(checkpoint, unnamed) or "check that this is the right file, and --model",
        )
    nearest = candidates[0]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:_LISTED])}{', ...' if len(names) > _LISTED else ''}"
        for what in _what(nearest.problems)
        for names in [nearest.problems[what]]
    ]
    where = f"; {nearest.title} fit best" if nearest.path else ""
    return LoadError(
        f"{checkpoint} does not fit the module{where}; keys {'; '.join(problems)}",
        _hint(checkpoint, unnamed)
        or _normalisation_hint(nearest)
        or "check the factory and its arguments (width, variant) against how the checkpoint was trained",
    )


def _normalisation_hint(nearest: _Candidate) -> str:
    has = normalisation_of(nearest.problems["unexpected"])
    wants = normalisation_of(nearest.problems["missing"])
    if has == wants or not (has or wants):
        return ""
    if has is None:
        return f"the module has {wants} and the file has not: let the factory return the module without it"
    return f"the file has {has}: let the factory apply it to the module, as the training did"


def _hint(checkpoint: Path, unnamed: Sequence[str]) -> str:
    if _SHARD.fullmatch(checkpoint.name):
        return "this is one part of several: give the .index.json file beside it"
    if unnamed:
        return (
            f"{unnamed[0]!r} is a list of tensors without names, which nothing can match to the module: copy "
            "it into the module where it was made (ema.copy_to) and save its state_dict"
        )
    return ""

"""Weight and spectral normalisation in checkpoints: torch has two ways to name one and the same tensors."""

from collections.abc import Collection, Iterable

# torch.nn.utils.weight_norm and spectral_norm, and torch.nn.utils.parametrizations of the same names.
_PARTS = {
    "weight norm": (
        ("weight_g", "parametrizations.weight.original0"),
        ("weight_v", "parametrizations.weight.original1"),
    ),
    "spectral norm": (
        ("weight_orig", "parametrizations.weight.original"),
        ("weight_u", "parametrizations.weight.0._u"),
        ("weight_v", "parametrizations.weight.0._v"),
    ),
}


def other_spellings(names: Collection[str], keys: Iterable[str]) -> dict[str, str]:
    """The names of a file that are to be read under another: the one that the module's `keys` have.

    Both ways hold the same values. Nothing where the file and the module agree.
    """
    known, wanted = set(names), _ends_of(keys)
    found = {}
    for parts in _PARTS.values():
        for source, target in ((0, 1), (1, 0)):
            first = parts[0][source]
            if parts[0][target] not in wanted or first in wanted:
                continue
            for owner in _owners(known, first):
                spelled = {owner + part[source]: owner + part[target] for part in parts}
                if known.issuperset(spelled):
                    found.update(spelled)
    return found


def normalisation_of(keys: Iterable[str]) -> str | None:
    """The normalisation whose tensors are among the keys, else `None`.

    >>> normalisation_of(["up.weight_g", "up.weight_v"]), normalisation_of(["up.weight"])
    ('weight norm', None)
    """
    ends = _ends_of(keys)
    return next((kind for kind, parts in _PARTS.items() if ends.intersection(parts[0])), None)


def _ends_of(keys: Iterable[str]) -> set[str]:
    ends = {part for parts in _PARTS.values() for pair in parts for part in pair}
    return {end for key in keys for end in ends if key == end or key.endswith(f".{end}")}


def _owners(names: Iterable[str], end: str) -> list[str]:
    """The module paths, with a dot behind, of the names that have this end."""
    return [name.removesuffix(end) for name in names if name == end or name.endswith(f".{end}")]

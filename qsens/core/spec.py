"""`SweepSpec`, everything that a sweep is asked to do, with every default; and its file `spec.toml`."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from qsens import __version__
from qsens.core.alterations import DEFAULT_YARDSTICKS, Alteration, parse_alterations
from qsens.core.errors import SpecError
from qsens.core.files import write_atomically
from qsens.core.interfaces import InputRule, OutputRule
from qsens.core.schema import check_schema, parse_toml
from qsens.core.spec_paths import portable_path, with_absolute_paths, with_paths, without_folders
from qsens.core.targets import target_named
from qsens.device.errors import reason_of
from qsens.device.special_files import read_file
from qsens.device.visible_text import visible_name

PLACEMENTS = ("inputs", "residual", "dense", "dense-float-output", "kernels")
WEIGHT_SCALES = ("per-channel", "per-tensor")
RANGE_METHODS = ("minmax", "percentile", "mse", "entropy")
COLOUR_ORDERS = ("rgb", "bgr", "gray")
CROPS = ("none", "center")
LAYER_ORDERS = ("execution", "definition")
NO_EFFECT_ON_RESULTS = frozenset(
    {"threads", "budget", "guard", "yardsticks", "delivery", "largest_picture_megapixels"}
)
# Phones take up to 50; a picture of that size takes a second and a gigabyte to decode and resize.
LARGEST_PICTURE_MEGAPIXELS = 50
# Keys that runs begun earlier do not have, with what those runs did: their digests stay.
CAME_LATER: dict[str, Any] = {"repair": "none", "metric_options": {}, "extractor_options": {}, "loop": {}}
# Defaults that are others now: runs begun with them go on with them.
EARLIER_DEFAULTS = {"strategy": "boundary"}
# Placements that targets asked for earlier, by the one that they ask for now.
EARLIER_PLACEMENTS = {"kernels": "dense"}
# A part of `repair` that no map depends on: some are scored without repair beside them.
COMPARE = "compare"
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class Options:
    """Options of a plug-in by name, their values kept as JSON text so that a spec can be hashed."""

    pairs: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, object]) -> "Options":
        """Options from plain values. Raises `SpecError` for a value that TOML and JSON cannot both hold."""
        if _holds_absent(values):
            raise SpecError(f"options {dict(values)!r} hold a value that is absent", "leave the option out")
        try:
            texts = {name: json.dumps(value, allow_nan=False) for name, value in values.items()}
            return cls(tuple(sorted(texts.items())))
        except (TypeError, ValueError) as error:
            raise SpecError(
                f"options {dict(values)!r}: {error}", "use numbers, texts, lists or true"
            ) from None

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return {name: json.loads(text) for name, text in self.pairs}

    def get(self, name: str) -> Any:
        """The value of that name, or `None`."""
        return self.to_dict().get(name)

    def __bool__(self) -> bool:
        return bool(self.pairs)


def _holds_absent(value: object) -> bool:
    if isinstance(value, Mapping | list | tuple):
        return any(map(_holds_absent, value.values() if isinstance(value, Mapping) else value))
    return value is None


@dataclass(frozen=True)
class SweepSpec:
    """Everything that decides what a sweep measures; hashable and picklable.

    Paths are absolute. `calibration` and `evaluation` are a folder, `noise` or `package.module:factory`;
    without `evaluation`, samples are held out of the calibration set. `reference` is a folder of real
    images. `screen_samples` of the evaluation set stand for all of it where a strategy screens maps; 0
    switches that off. `percentile` is a share, 0 to 1. `repair` is `auto`, `none`, or stages joined by
    commas; `compare`, alone or last of them, has maps scored without it too.
    `loop` makes a picture of several calls: its `name`, and its options beside it; empty is one call.
    `image_rule` holds for image inputs that `inputs` does not name. `budget` and `guard` are points (`2.0`)
    or a share of FP32's score (`5%`); several budgets name their scores (`fid=5%, psnr=45`). `pinned` holds
    `PATTERN=PRECISION` texts: layers that stay at one precision. `float_precision` is that of the layers
    a strategy does not put in INT8. `start_from` is a run folder whose chosen map is scored first, and
    searched from. `layer_order` is the order that strategies and figures go by: execution,
    or the definition order that the generator states. `threads` 0 leaves the choice to the backend.
    `yardsticks` are alterations (`jpeg:95`) of FP32's pictures that are scored for comparison, beside those
    that a budget names; `delivery` is what happens to pictures on their way to a viewer, the budget where
    none is stated.
    Larger pictures than `largest_picture_megapixels` are refused by their header. `target` names what the
    map is for: layers that it cannot run in INT8 are not offered. Features are those of each `extractor`; a
    budget holds by all of them. `metric_options` and `extractor_options` are tables of options by plug-in.
    """

    checkpoint: str | None = None
    model: str | None = None
    model_options: Options = Options()
    input_shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    inputs: tuple[tuple[str, InputRule], ...] = ()
    image_rule: InputRule = field(default_factory=InputRule)
    output: OutputRule = field(default_factory=OutputRule)
    loop: Options = Options()
    calibration: str | None = None
    evaluation: str | None = None
    reference: str | None = None
    calibration_samples: int = 64
    evaluation_samples: int = 256
    screen_samples: int = 32
    range_method: str = "mse"
    percentile: float = 0.9999
    repair: str = "auto"
    placement: str = "residual"
    weight_scales: str = "per-channel"
    float_precision: str = "fp16"
    pinned: tuple[str, ...] = ()
    layer_order: str = "execution"
    target: str | None = None
    backend: str = "onnxruntime"
    backend_options: Options = Options()
    strategy: str = "curve+guided"
    strategy_options: Options = Options()
    start_from: str | None = None
    metrics: tuple[str, ...] = ("fid", "fid-fp32", "kid", "psnr", "ssim")
    metric_options: Options = Options()
    extractor: tuple[str, ...] = ("auto",)
    extractor_options: Options = Options()
    inception_weights: str | None = None
    seed: int = 0
    batch_size: int = 8
    threads: int = 0
    largest_picture_megapixels: int = LARGEST_PICTURE_MEGAPIXELS
    budget: str | None = None
    guard: str | None = None
    yardsticks: tuple[str, ...] = DEFAULT_YARDSTICKS
    delivery: str | None = None

    def __post_init__(self) -> None:
        parse_alterations(self.yardsticks)
        if self.delivery is not None:
            Alteration.parse(self.delivery)
        object.__setattr__(self, "input_shapes", tuple(sorted(self.input_shapes)))
        object.__setattr__(self, "inputs", tuple(sorted(self.inputs, key=lambda pair: pair[0])))

    @property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the sha256 of every value that changes results.

        Of paths only the last part counts: a moved project is the same run, and the content of files is
        compared by `RunFolder.record_provenance`.
        """
        values = {key: value for key, value in self.of_results.items() if CAME_LATER.get(key) != value}
        kept = without_folders(values)
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def of_results(self) -> dict[str, Any]:
        """`to_mapping` without what no result depends on."""
        values = {**self.to_mapping(), "repair": self.stages_of_repair}
        return {key: value for key, value in values.items() if key not in NO_EFFECT_ON_RESULTS}

    @property
    def grid(self) -> str:
        """The INT8 codes that maps are scored with, those of the target: `signed` or `unsigned`."""
        return "signed" if self.target is None else target_named(self.target).target.grid

    @property
    def stages_of_repair(self) -> str:
        """`repair` without the wish to compare: `auto`, `none`, or stages joined by commas."""
        return ",".join(name for name in self.repair.split(",") if name != COMPARE) or "auto"

    @property
    def compares_repair(self) -> bool:
        """Whether maps are to be scored without repair too."""
        return COMPARE in self.repair.split(",")

    def to_mapping(self) -> dict[str, Any]:
        """Plain values by key, as in the TOML file; keys that are `None` are left out."""
        pairs = ((entry.name, getattr(self, entry.name)) for entry in fields(self))
        return {name: _plain(name, value) for name, value in pairs if value is not None}

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "SweepSpec":
        """Read what `to_mapping` wrote; absent keys take their defaults. Expects checked values."""
        return cls(**{name: _READERS.get(name, _as_is)(value) for name, value in values.items()})


def difference(old: SweepSpec, new: SweepSpec) -> list[str]:
    """Lines `key: old -> new` for every value that changes results."""
    before, after = _flat(old.of_results), _flat(new.of_results)
    keys = dict.fromkeys([*before, *after])
    return [
        f"{key}: {_shown(before, key)} -> {_shown(after, key)}"
        for key in keys
        if before.get(key) != after.get(key)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else "absent"


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, Options):
        return value.to_dict()
    if isinstance(value, OutputRule):
        return _plain_output(value)
    if isinstance(value, InputRule):
        return _plain_rule(value)
    if name == "inputs":
        return {key: _plain_rule(rule) for key, rule in value}
    if name == "input_shapes":
        return {key: list(shape) for key, shape in value}
    if name == "extractor" and len(value) == 1:
        return value[0]
    return list(value) if isinstance(value, tuple) else value


def _plain_output(rule: OutputRule) -> dict[str, Any]:
    """As in the TOML file, where several outputs are one list."""
    plain = _plain_rule(rule)
    del plain["also"]
    return {**plain, "name": list(rule.names)} if rule.also else plain


def _plain_rule(rule: InputRule | OutputRule) -> dict[str, Any]:
    pairs = ((entry.name, getattr(rule, entry.name)) for entry in fields(rule))
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in pairs if value is not None
    }


def _as_is(value: Any) -> Any:
    return value


def _read_input_rule(value: Mapping[str, Any]) -> InputRule:
    return InputRule(**_with_tuples(value))


def _read_output_rule(value: Mapping[str, Any]) -> OutputRule:
    names = value.get("name")
    if isinstance(names, list | tuple):
        first, *also = dict.fromkeys(names)
        value = {**value, "name": first, "also": also}
    return OutputRule(**_with_tuples(value))


def _read_names(value: str | Sequence[str]) -> tuple[str, ...]:
    """One name, or a list of them."""
    return (value,) if isinstance(value, str) else tuple(value)


def _with_tuples(value: Mapping[str, Any]) -> dict[str, Any]:
    numbers = ("value_range", "value")
    return {
        key: tuple(float(part) for part in entry)
        if key in numbers
        else tuple(entry)
        if isinstance(entry, list | tuple)
        else entry
        for key, entry in value.items()
    }


def _read_inputs(value: Mapping[str, Any]) -> tuple[tuple[str, InputRule], ...]:
    return tuple((name, _read_input_rule(rule)) for name, rule in value.items())


def _read_shapes(value: Mapping[str, Any]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((name, tuple(shape)) for name, shape in value.items())


_READERS: dict[str, Callable[[Any], Any]] = {
    "model_options": Options.of,
    "backend_options": Options.of,
    "strategy_options": Options.of,
    "metric_options": Options.of,
    "loop": Options.of,
    "extractor_options": Options.of,
    "input_shapes": _read_shapes,
    "inputs": _read_inputs,
    "image_rule": _read_input_rule,
    "output": _read_output_rule,
    "metrics": tuple,
    "extractor": _read_names,
    "pinned": tuple,
    "yardsticks": tuple,
    "percentile": float,
}


def read_spec(path: Path) -> SweepSpec:
    """The spec in a TOML file; its relative paths are relative to the file.

    Raises:
        SpecError: if the file cannot be read, or naming the key that is unknown or wrong.
    """
    return SweepSpec.from_mapping(read_spec_values(path))


def read_spec_values(path: Path) -> dict[str, Any]:
    """The checked values that a TOML file sets, without defaults, paths made absolute."""
    try:
        values = parse_toml(read_file(path))
    except OSError as error:
        raise SpecError(
            f"cannot read the spec {path}: {reason_of(error)}", "give the path of a TOML file"
        ) from error
    except ValueError as error:
        raise SpecError(
            f"{path} is not TOML: {error}",
            "strings need quotes, lists need brackets, the text is UTF-8",
        ) from error
    check_schema(values, "spec", str(path))
    absolute = with_absolute_paths(values, path.parent)
    _check_texts(absolute, str(path))
    return absolute


def spec_from_values(
    values: Mapping[str, Any], where: str, base: Mapping[str, Any] | None = None
) -> SweepSpec:
    """A spec from plain values laid over `base` (tables are merged key by key; `values` win).

    Relative paths are relative to the working folder. `where` names the source of `values` in errors.

    Raises:
        SpecError: naming the key that is unknown or wrong.
    """
    check_schema(values, "spec", where)
    absolute = with_absolute_paths(values, Path.cwd())
    _check_texts(absolute, where)
    return SweepSpec.from_mapping(_fitting_target(merge_values(base or {}, absolute)))


def _fitting_target(values: dict[str, Any]) -> dict[str, Any]:
    """The same values, with the placement that the kernels of their target need where none is stated."""
    placement = placement_of_target(values.get("target"))
    return {"placement": placement, **values} if placement else values


def placement_of_target(target: str | None) -> str:
    """The placement that a target's kernels need, empty where any will do. Raises `SpecError`."""
    return "" if target is None else target_named(target).target.placement


def spec_going_on(spec: SweepSpec, before: SweepSpec) -> SweepSpec:
    """The spec of a run that `before` began, before a key or a default came: it keeps doing what it did."""
    default = SweepSpec()
    kept = {
        key: value
        for key, value in {**CAME_LATER, **EARLIER_DEFAULTS}.items()
        if getattr(before, key) == value and getattr(spec, key) == getattr(default, key)
    }
    is_default = spec.placement == placement_of_target(spec.target)
    if is_default and EARLIER_PLACEMENTS.get(spec.placement) == before.placement:
        kept["placement"] = before.placement
    return SweepSpec.from_mapping({**spec.to_mapping(), **kept})


def merge_values(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` laid over `base`, tables merged key by key."""
    merged = dict(base)
    for key, value in values.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = merge_values(below, value)
        else:
            merged[key] = value
    return merged


def write_spec(path: Path, spec: SweepSpec) -> None:
    """Write every value, defaults included; keys without a value are named in a comment.

    Paths below the working folder are written relative to the file, so that a project can be moved; so are
    those beside the file.

    Raises:
        RunFolderError: if the file cannot be written.
    """
    import tomli_w  # only needed where a run begins

    values = with_paths(spec.to_mapping(), lambda file: portable_path(file, path.parent.absolute()))
    absent = [name for name in SweepSpec.__dataclass_fields__ if name not in values]
    header = f"# Written by qsens {__version__}. Not set: {', '.join(absent) or 'nothing'}.\n"
    write_atomically(path, (header + tomli_w.dumps(values)).encode())


def _check_texts(values: Any, where: str) -> None:
    """Raise `SpecError` for a text that a TOML file cannot hold, or that no path can be."""
    if isinstance(values, Mapping | list | tuple):
        for entry in (*values.keys(), *values.values()) if isinstance(values, Mapping) else values:
            _check_texts(entry, where)
    elif isinstance(values, str) and _NO_TEXT.search(values):
        fault = "holds a NUL" if "\0" in values else "is no UTF-8"
        raise SpecError(f"{where}: {visible_name(values)} {fault}", "rename it, or give a link to it")

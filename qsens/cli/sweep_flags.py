"""The flags that `sweep`, `plan` and `demo` share, as values, and the `SweepSpec` that they make."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from qsens.cli.option_values import NAMED_GROUPS, OPTION_GROUPS, PluginOption
from qsens.cli.repeated_options import one_value_each
from qsens.core.errors import SpecError
from qsens.core.spec import SweepSpec, merge_values, read_spec_values, spec_from_values

_IMAGE_RULE = ("resize", "crop", "value_range", "colour_order")
_SPEC_KEYS = {entry.name for entry in fields(SweepSpec)}


@dataclass(frozen=True)
class SweepOptions:
    """The shared options; `None` or empty where one was not given: defaults live in `SweepSpec` only."""

    spec: Path | None = None
    out: Path | None = None
    model: str | None = None
    loop: str | None = None
    states: tuple[tuple[str, str], ...] = ()
    calibration: str | None = None
    evaluation: str | None = None
    reference: str | None = None
    calibration_samples: int | None = None
    evaluation_samples: int | None = None
    screen_samples: int | None = None
    strategy: str | None = None
    start_from: str | None = None
    by: str | None = None
    target: str | None = None
    backend: str | None = None
    metrics: tuple[str, ...] = ()
    extractor: tuple[str, ...] = ()
    inception_weights: str | None = None
    budget: str | None = None
    guard: str | None = None
    yardsticks: list[str] | None = None
    delivery: str | None = None
    pinned: tuple[str, ...] = ()
    range_method: str | None = None
    repair: str | None = None
    placement: str | None = None
    weight_scales: str | None = None
    layer_order: str | None = None
    input_shapes: tuple[tuple[str, list[int]], ...] = ()
    resize: list[int] | None = None
    crop: str | None = None
    value_range: list[float] | None = None
    colour_order: str | None = None
    largest_picture_megapixels: int | None = None
    output_name: tuple[str, ...] = ()
    output_range: list[float] | None = None
    output_colour_order: str | None = None
    options: tuple[PluginOption, ...] = ()
    seed: int | None = None
    batch_size: int | None = None
    threads: int | None = None
    trust_checkpoint: bool = False


@dataclass(frozen=True)
class WorkerOptions:
    """The processes that score maps: that many here, or the workers of the cluster at an address.

    Raises:
        SpecError: where both are given.
    """

    workers: int | None
    cluster: str | None

    def __post_init__(self) -> None:
        if self.workers is not None and self.cluster is not None:
            raise SpecError("--workers and --cluster exclude each other", "a cluster has workers of its own")


def spec_from_options(
    checkpoint: str | None, options: SweepOptions, base: Mapping[str, Any] | None = None
) -> SweepSpec:
    """The spec of a command line: `base`, then the file of `--spec`, then the flags; later ones win.

    `--out` and `--trust-checkpoint` are no part of a spec: the command reads them itself.

    Raises:
        SpecError: naming the key that is unknown or wrong.
    """
    values = values_from_options(checkpoint, options)
    from_file = {} if options.spec is None else read_spec_values(options.spec)
    return spec_from_values(values, "command line", merge_values(base or {}, from_file))


def values_from_options(checkpoint: str | None, options: SweepOptions) -> dict[str, Any]:
    """Spec values of the flags that were given, absent ones left out."""
    # the same pattern twice: the later pin would win
    one_value_each("--pin", ((pin.rpartition("=")[0], pin) for pin in options.pinned))
    values: dict[str, Any] = {
        "checkpoint": checkpoint,
        **{name: value for name, value in vars(options).items() if name in _SPEC_KEYS},
        "input_shapes": one_value_each("--input-shape", options.input_shapes),
        "image_rule": _given({name: getattr(options, name) for name in _IMAGE_RULE}),
        "output": _given(
            {
                "value_range": options.output_range,
                "colour_order": options.output_colour_order,
                "name": options.output_name,
            }
        ),
        **_plugin_options(options),
    }
    values["loop"] = _loop(options, values.pop("loop_options"))
    return _given(values)


def _loop(options: SweepOptions, given: Mapping[str, Any]) -> dict[str, Any]:
    """The table of the loop; states alone are those of a recurrent one."""
    states = one_value_each("--state", options.states)
    if not states:
        return {**_given({"name": options.loop}), **given}
    return {"name": options.loop or "recurrent", "states": states, **given}


def default_out(spec: SweepSpec) -> Path:
    """The run folder without `--out`: `reports/`, then the name of the checkpoint or the model.

    Raises:
        SpecError: if there is neither.
    """
    text = spec.checkpoint or spec.model
    if text is None:
        raise SpecError("no generator", "give a CHECKPOINT, or --model NAME")
    return Path("reports") / re.sub(r"[^\w.-]+", "-", Path(text).stem)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are there, repeated ones as lists, as a TOML file has them."""
    present = {key: value for key, value in values.items() if value is not None and value not in ((), {})}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in present.items()}


def _plugin_options(options: SweepOptions) -> dict[str, dict[str, Any]]:
    by = () if options.by is None else (PluginOption("strategy", "by", options.by),)
    given = (*options.options, *by)
    values = one_value_each("--option", ((f"{one.group}.{one.name}", one.value) for one in given))
    tables: dict[str, dict[str, Any]] = {f"{group}_options": {} for group in OPTION_GROUPS}
    for one in given:
        table, key = tables[f"{one.group}_options"], one.name
        if one.group in NAMED_GROUPS:
            plugin, _, key = one.name.partition(".")
            table = table.setdefault(plugin, {})
        table[key] = values[f"{one.group}.{one.name}"]
    return tables

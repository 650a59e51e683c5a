"""The options that `sweep`, `plan` and `demo` share, and how they become a `SweepSpec`."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from qsens.cli.repeated_options import one_value_each
from qsens.core.alterations import NO_YARDSTICKS, parse_alterations
from qsens.core.errors import SpecError
from qsens.core.schema import load_schema
from qsens.core.spec import (
    COLOUR_ORDERS,
    CROPS,
    LARGEST_PICTURE_MEGAPIXELS,
    LAYER_ORDERS,
    PLACEMENTS,
    RANGE_METHODS,
    WEIGHT_SCALES,
    SweepSpec,
    merge_values,
    read_spec_values,
    spec_from_values,
)
from qsens.device.plain_values import parse_json

Command = Callable[..., Any]
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})")
# More digits than any size has would take int() long, or end it.
_SIDES = re.compile(r"[0-9]{1,12}(x[0-9]{1,12})*")
LARGEST_SIDE = 8192
_OPTION_GROUPS = ("model", "backend", "strategy")
_IMAGE_RULE = ("resize", "crop", "value_range", "colour_order")
_SPEC_KEYS = {entry.name for entry in fields(SweepSpec)}


def whole_number(key: str) -> click.IntRange:
    """Whole numbers within the bounds that the schema sets for a spec key."""
    entry = load_schema("spec")["properties"][key]
    return click.IntRange(min=entry["minimum"], max=entry["maximum"])


def parse_range(text: str) -> list[float]:
    """Read `LOW..HIGH`, for example `-1..1`."""
    match = _RANGE.fullmatch(text.strip())
    if match is None or not float(match[1]) < float(match[2]) < math.inf:
        raise click.BadParameter(f"{text!r} is not a range: write LOW..HIGH, for example -1..1 or 0..255")
    return [float(match[1]), float(match[2])]


def parse_size(text: str) -> list[int]:
    """Read `HxW` in pixels."""
    sides = [int(side) for side in text.split("x")] if _SIDES.fullmatch(text) else []
    if len(sides) != 2 or min(sides) < 1 or max(sides) > LARGEST_SIDE:
        raise click.BadParameter(
            f"{text!r} is not a size: write HxW in pixels, for example 256x256, at most {LARGEST_SIDE}"
        )
    return sides


def parse_named_shape(text: str) -> tuple[str, list[int]]:
    """Read `NAME=1x3x256x256`."""
    name, _, shape = text.rpartition("=")
    if not name or not _SIDES.fullmatch(shape):
        raise click.BadParameter(f"{text!r} is not a named shape: write NAME=1x3x256x256")
    return name, [int(side) for side in shape.split("x")]


@dataclass(frozen=True)
class PluginOption:
    """One option of the `model`, `backend` or `strategy` plug-in."""

    group: str
    name: str
    value: Any


def parse_plugin_option(text: str) -> PluginOption:
    """Read `GROUP.KEY=VALUE`; the value is JSON where it can be read as such, else text."""
    key, separator, value = text.partition("=")
    group, _, name = key.partition(".")
    if not separator or not name or group not in _OPTION_GROUPS:
        groups = ", ".join(_OPTION_GROUPS)
        raise click.BadParameter(f"{text!r} is not an option: write GROUP.KEY=VALUE with GROUP in {groups}")
    try:
        return PluginOption(group, name, parse_json(value))
    except ValueError:
        return PluginOption(group, name, value)


_PATH = click.Path(path_type=Path)
# Those that come with qsens; plug-ins declare more, which takes too long to load for a help text.
TARGETS_TEXT = "openvino, onnxruntime, tensorrt or tensorrt-legacy"
MOST_WORKERS = 1024
_range_option = partial(click.option, type=parse_range, metavar="LOW..HIGH")
largest_picture_option = partial(
    click.option,
    "--largest-picture",
    "largest_picture_megapixels",
    type=whole_number("largest_picture_megapixels"),
    metavar="MEGAPIXELS",
    help=f"Refuse larger images before they are decoded; {LARGEST_PICTURE_MEGAPIXELS} if left out.",
)


def _joined(context: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> str | None:
    """Several budgets as the one text that a spec has; `None` where none is given."""
    return ", ".join(texts) or None


def _listed(context: click.Context, option: click.Parameter, text: str | None) -> list[str] | None:
    """The alterations of a flag, none for `none`. Raises `SpecError` for what is none."""
    if text is None:
        return None
    return [] if text.strip() == NO_YARDSTICKS else [str(one) for one in parse_alterations(text.split(","))]


budget_option = partial(click.option, "--budget", multiple=True, callback=_joined, metavar="[NAME=]X")
_OPTIONS = (
    click.option("--spec", type=_PATH, help="TOML file with a spec; flags win over it."),
    click.option("--out", type=_PATH, help="Run folder to make or to resume."),
    click.option("--model", metavar="NAME", help="Generator plug-in or package.module:factory."),
    click.option("--calibration", metavar="SET", help="Folder, 'noise' or package.module:factory."),
    click.option("--evaluation", metavar="SET", help="The same; held out from calibration if absent."),
    click.option("--reference", metavar="FOLDER", help="Real images for FID and KID."),
    click.option(
        "--calibration-samples",
        type=whole_number("calibration_samples"),
        help="Samples that ranges are measured on.",
    ),
    click.option(
        "--evaluation-samples",
        type=whole_number("evaluation_samples"),
        help="Samples that maps are scored on.",
    ),
    click.option(
        "--screen-samples",
        type=whole_number("screen_samples"),
        help="Samples of a first, cheap score, for strategies that screen; 0: none.",
    ),
    click.option("--strategy", metavar="NAME", help="Which maps to try; several joined by +."),
    click.option("--by", type=click.Choice(("layer", "block")), help="What the strategy moves together."),
    click.option("--for", "target", metavar="TARGET", help=f"What the map is for: {TARGETS_TEXT}."),
    click.option("--backend", metavar="NAME", help="What builds and runs the maps."),
    click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Score; repeat for several."),
    click.option(
        "--extractor",
        metavar="NAME|FILE.onnx",
        help="Feature extractor of FID and KID, or 'auto'; a file has its preprocessing in a TOML beside it.",
    ),
    click.option("--inception-weights", metavar="FILE", help="Inception weights of pytorch-fid."),
    budget_option(
        help="Allowed loss: what an alteration of FP32's pictures costs (jpeg:95), points (2.0), a share of "
        "FP32's score (5%), or least dB of PSNR; repeat with the names of scores for several (fid=5%), all "
        "of which hold."
    ),
    click.option("--guard", metavar="X", help="The same for the distance from the FP32 outputs."),
    click.option(
        "--yardsticks",
        callback=_listed,
        metavar="LIST",
        help="Alterations of FP32's pictures to score for comparison, by commas (jpeg:90,noise:2,blur:0.5,"
        "brightness:0.99); none: only those that a budget names.",
    ),
    click.option(
        "--delivery",
        metavar="X",
        help="What happens to pictures on their way to a viewer (jpeg:85): as much damage is free, where no "
        "budget is given.",
    ),
    click.option(
        "--pin", "pinned", multiple=True, metavar="PATTERN=PRECISION", help="Keep layers as they are."
    ),
    click.option("--ranges", "range_method", type=click.Choice(RANGE_METHODS), help="How ranges are chosen."),
    click.option(
        "--repair",
        metavar="STAGES",
        help="Make INT8 better before maps are tried: auto, none, stages (ranges,scales,weights), or "
        "compare, which scores some maps without it too.",
    ),
    click.option("--placement", type=click.Choice(PLACEMENTS), help="Which tensors INT8 layers quantize."),
    click.option("--weight-scales", type=click.Choice(WEIGHT_SCALES), help="Granularity of weight scales."),
    click.option(
        "--layer-order",
        type=click.Choice(LAYER_ORDERS),
        help="Order of the layers: as they run, or as the generator defines them.",
    ),
    click.option(
        "--input-shape",
        "input_shapes",
        multiple=True,
        type=parse_named_shape,
        metavar="NAME=SHAPE",
        help="Batch axis included.",
    ),
    click.option("--resize", type=parse_size, metavar="HxW", help="Resize input images."),
    click.option("--crop", type=click.Choice(CROPS), help="Crop input images to the aspect ratio first."),
    click.option(
        "--value-range",
        type=parse_range,
        metavar="LOW..HIGH",
        help="What 0..255 becomes in the generator's input.",
    ),
    click.option("--colour-order", type=click.Choice(COLOUR_ORDERS), help="Colour order of the input."),
    largest_picture_option(),
    click.option(
        "--output",
        "output_name",
        multiple=True,
        metavar="NAME",
        help="Output that is the picture; of several, the worst decides. Repeatable.",
    ),
    click.option(
        "--output-range", type=parse_range, metavar="LOW..HIGH", help="Output values that become 0..255."
    ),
    click.option(
        "--output-colour-order", type=click.Choice(COLOUR_ORDERS), help="Colour order of the output."
    ),
    click.option(
        "--option",
        "options",
        multiple=True,
        type=parse_plugin_option,
        metavar="GROUP.KEY=VALUE",
        help="Option of a plug-in.",
    ),
    click.option("--seed", type=whole_number("seed"), help="Seed of everything random."),
    click.option("--batch-size", type=whole_number("batch_size"), help="Samples that run at once."),
    click.option("--threads", type=whole_number("threads"), help="CPU threads; 0 leaves it to the backend."),
    click.option("--trust-checkpoint", is_flag=True, help="Let the checkpoint run code while it loads."),
)
# No part of a spec: results do not depend on them.
_WORKER_OPTIONS = (
    click.option(
        "--workers",
        type=click.IntRange(min=1, max=MOST_WORKERS),
        metavar="N",
        help="Processes here that score maps side by side.",
    ),
    click.option("--cluster", metavar="ADDRESS", help="Dask scheduler whose workers do, tcp://host:8786."),
)


@dataclass(frozen=True)
class SweepOptions:
    """The shared options; `None` or empty where one was not given: defaults live in `SweepSpec` only."""

    spec: Path | None = None
    out: Path | None = None
    model: str | None = None
    calibration: str | None = None
    evaluation: str | None = None
    reference: str | None = None
    calibration_samples: int | None = None
    evaluation_samples: int | None = None
    screen_samples: int | None = None
    strategy: str | None = None
    by: str | None = None
    target: str | None = None
    backend: str | None = None
    metrics: tuple[str, ...] = ()
    extractor: str | None = None
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


def gathered(kind: type, name: str) -> Callable[[Command], Command]:
    """A decorator that hands a command the options of the fields of `kind` as one `kind`, named `name`."""
    names = [entry.name for entry in fields(kind)]

    def gather(command: Command) -> Command:
        @wraps(command)
        def take(*arguments: Any, **given: Any) -> Any:
            typed = kind(**{field: given.pop(field) for field in names})
            return command(*arguments, **given, **{name: typed})

        return take

    return gather


def sweep_options(command: Command) -> Command:
    """Add the shared options to a command; it takes them as `options`, a `SweepOptions`."""
    command = gathered(SweepOptions, "options")(command)
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def worker_options(command: Command) -> Command:
    """Add `--workers` and `--cluster` to a command; it takes them as `workers`, a `WorkerOptions`."""
    command = gathered(WorkerOptions, "workers")(command)
    for option in reversed(_WORKER_OPTIONS):
        command = option(command)
    return command


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
    return _given(values)


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
    return {
        f"{group}_options": {one.name: values[f"{group}.{one.name}"] for one in given if one.group == group}
        for group in _OPTION_GROUPS
    }

"""The options that `sweep`, `plan` and `demo` share, as their help shows them."""

from collections.abc import Callable
from dataclasses import fields
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from qsens.cli.option_values import (
    OPTION_GROUPS,
    parse_named_shape,
    parse_plugin_option,
    parse_range,
    parse_size,
    parse_state,
)
from qsens.cli.sections import SectionOption, in_section
from qsens.cli.sweep_flags import SweepOptions, WorkerOptions
from qsens.core.alterations import NO_YARDSTICKS, parse_alterations
from qsens.core.errors import SpecError
from qsens.core.schema import load_schema, shown
from qsens.core.spec import (
    COLOUR_ORDERS,
    CROPS,
    LARGEST_PICTURE_MEGAPIXELS,
    LAYER_ORDERS,
    PLACEMENTS,
    RANGE_METHODS,
    WEIGHT_SCALES,
    SweepSpec,
)
from qsens.selection.budget import DEFAULT_BUDGET

Command = Callable[..., Any]


def whole_number(key: str) -> click.IntRange:
    """Whole numbers within the bounds that the schema sets for a spec key."""
    entry = load_schema("spec")["properties"][key]
    return click.IntRange(min=entry["minimum"], max=entry["maximum"])


_PATH = click.Path(path_type=Path)
# Those that come with qsens; plug-ins declare more, which takes too long to load for a help text.
TARGETS_TEXT = "openvino, onnxruntime, tensorrt or tensorrt-legacy"
MOST_WORKERS = 1024
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


def _default(key: str) -> str:
    """The end of a help text: what a spec has without the option, `SweepSpec` asked."""
    value = next(entry.default for entry in fields(SweepSpec) if entry.name == key)
    text = ", ".join(value) if isinstance(value, tuple) else value
    return f"  [default: {text}]"


def _expanded(context: click.Context, argument: click.Parameter, paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """The files of quoted patterns (`"*/model.onnx"`) in the order of their names; other paths as they are.

    Raises:
        SpecError: for a pattern that no file fits.
    """
    found: list[Path] = []
    for path in paths:
        is_pattern = not path.exists() and any(sign in str(path) for sign in "*?[")
        files = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor)))) if is_pattern else [path]
        if not files:
            raise SpecError(f"no file fits {shown(str(path))}", "give the paths, or a pattern that they fit")
        found += files
    return tuple(found)


checkpoints_argument = click.argument(
    "checkpoints",
    nargs=-1,
    metavar="[CHECKPOINT]...",
    type=click.Path(path_type=Path),
    callback=_expanded,
)
budget_option = partial(
    click.option, "--budget", cls=SectionOption, section="Scoring", multiple=True, callback=_joined,
    metavar="[NAME=]X",
)  # fmt: skip
_run, _generator, _loop, _inputs, _pictures, _scoring, _search, _int8, _process = (
    in_section(name)
    for name in ("Run", "Generator", "Loop", "Inputs", "Pictures", "Scoring", "Search", "INT8", "Process")
)
_OPTIONS = (
    _run("--spec", type=_PATH, help="TOML file with a spec; flags win over it."),
    _run("--out", type=_PATH, help="Run folder to make or to resume.  [default: reports/, then the name]"),
    _run(
        "--seed", metavar="N", type=whole_number("seed"), help=f"Seed of everything random.{_default('seed')}"
    ),
    _generator(
        "--model",
        metavar="NAME",
        plugins="generators",
        help="Generator plug-in or package.module:factory; files tell by themselves.",
    ),
    _generator(
        "--input-shape",
        "input_shapes",
        multiple=True,
        type=parse_named_shape,
        metavar="NAME=SHAPE",
        help="Full shape of an input, batch axis included: image=1x3x256x256. Repeatable.",
    ),
    _generator(
        "--option",
        "options",
        multiple=True,
        type=parse_plugin_option,
        metavar="GROUP.KEY=VALUE",
        help=f"Option of a plug-in; GROUP is {', '.join(OPTION_GROUPS)}. Repeatable.",
    ),
    _generator("--trust-checkpoint", is_flag=True, help="Let the checkpoint run code while it loads."),
    _loop(
        "--loop",
        metavar="NAME",
        plugins="loops",
        help="Makes a picture of several calls of the network.  [default: one call]",
    ),
    _loop(
        "--state",
        "states",
        multiple=True,
        type=parse_state,
        metavar="INPUT=OUTPUT",
        help="Input that takes an output at the next frame; the loop is recurrent then. Repeatable.",
    ),
    _inputs(
        "--calibration", metavar="SET", plugins="sets", help="Folder, 'noise' or package.module:factory."
    ),
    _inputs("--evaluation", metavar="SET", help="The same; held out from calibration if absent."),
    _inputs("--reference", metavar="FOLDER", help="Real images for FID and KID."),
    _inputs(
        "--calibration-samples",
        metavar="N",
        type=whole_number("calibration_samples"),
        help=f"Samples that ranges are measured on.{_default('calibration_samples')}",
    ),
    _inputs(
        "--evaluation-samples",
        metavar="N",
        type=whole_number("evaluation_samples"),
        help=f"Samples that maps are scored on.{_default('evaluation_samples')}",
    ),
    _inputs("--resize", type=parse_size, metavar="HxW", help="Resize input images."),
    _inputs(
        "--crop",
        type=click.Choice(CROPS),
        help="Crop input images to the aspect ratio first.  [default: none]",
    ),
    _inputs(
        "--value-range",
        type=parse_range,
        metavar="LOW..HIGH",
        help="What 0..255 becomes in the generator's input.  [default: 0..1]",
    ),
    _inputs(
        "--colour-order",
        type=click.Choice(COLOUR_ORDERS),
        help="Colour order of the input.  [default: rgb]",
    ),
    largest_picture_option(cls=SectionOption, section="Inputs"),
    _pictures(
        "--output",
        "output_name",
        multiple=True,
        metavar="NAME",
        help="Output that is the picture; of several, the worst decides. Repeatable.",
    ),
    _pictures(
        "--output-range",
        type=parse_range,
        metavar="LOW..HIGH",
        help="Output values that become 0..255.  [default: 0..1]",
    ),
    _pictures(
        "--output-colour-order",
        type=click.Choice(COLOUR_ORDERS),
        help="Colour order of the output.  [default: rgb]",
    ),
    _scoring(
        "--metric",
        "metrics",
        multiple=True,
        metavar="NAME",
        plugins="metrics",
        help=f"Score; repeat for several.{_default('metrics')}",
    ),
    _scoring(
        "--extractor",
        multiple=True,
        metavar="NAME|FILE.onnx",
        plugins="extractors",
        help="Feature extractor of FID and KID; a file has its preprocessing in a TOML beside it; by several "
        f"a map must hold in all. Repeatable.{_default('extractor')}",
    ),
    _scoring("--inception-weights", metavar="FILE", help="Inception weights of pytorch-fid."),
    budget_option(
        help="Allowed loss: what an alteration of FP32's pictures costs (jpeg:95), points (2.0), a share of "
        "FP32's score (5%), or least dB of PSNR; repeat with the names of scores for several (fid=5%), all "
        f"of which hold.  [default: {DEFAULT_BUDGET}]"
    ),
    _scoring("--guard", metavar="X", help="The same for the distance from the FP32 outputs."),
    _scoring(
        "--yardsticks",
        callback=_listed,
        metavar="LIST",
        help="Alterations of FP32's pictures to score for comparison, by commas (jpeg:90,noise:2,blur:0.5,"
        f"brightness:0.99); none: only those that a budget names.{_default('yardsticks')}",
    ),
    _scoring(
        "--delivery",
        metavar="X",
        help="What happens to pictures on their way to a viewer (jpeg:85): as much damage is free, where no "
        "budget is given.",
    ),
    _search(
        "--strategy",
        metavar="NAME",
        plugins="strategies",
        help=f"Which maps to try; several joined by +.{_default('strategy')}",
    ),
    _search("--by", type=click.Choice(("layer", "block")), help="What the strategy moves together."),
    _search(
        "--start-from",
        metavar="RUN",
        help="Score the map that this run chose first, search from there with what it knew, and say what of "
        "it still holds.",
    ),
    _search(
        "--screen-samples",
        metavar="N",
        type=whole_number("screen_samples"),
        help=f"Samples of a first, cheap score, for strategies that screen; 0: none."
        f"{_default('screen_samples')}",
    ),
    _search(
        "--pin",
        "pinned",
        multiple=True,
        metavar="PATTERN=PRECISION",
        help="Keep layers as they are: face_*=fp16. Repeatable.",
    ),
    _search(
        "--layer-order",
        type=click.Choice(LAYER_ORDERS),
        help=f"Order of the layers: as they run, or as the generator defines them.{_default('layer_order')}",
    ),
    _int8("--for", "target", metavar="TARGET", help=f"What the map is for: {TARGETS_TEXT}."),
    _int8(
        "--backend",
        metavar="NAME",
        plugins="backends",
        help=f"What builds and runs the maps.{_default('backend')}",
    ),
    _int8(
        "--ranges",
        "range_method",
        type=click.Choice(RANGE_METHODS),
        help=f"How ranges are chosen.{_default('range_method')}",
    ),
    _int8(
        "--repair",
        metavar="STAGES",
        help="Make INT8 better before maps are tried: auto, none, stages (ranges,scales,weights), or "
        f"compare, which scores some maps without it too.{_default('repair')}",
    ),
    _int8(
        "--placement",
        type=click.Choice(PLACEMENTS),
        help="Which tensors INT8 layers quantize.  [default: what the target's kernels need, else residual]",
    ),
    _int8(
        "--weight-scales",
        type=click.Choice(WEIGHT_SCALES),
        help=f"Granularity of weight scales.{_default('weight_scales')}",
    ),
    _process(
        "--batch-size",
        metavar="N",
        type=whole_number("batch_size"),
        help=f"Samples that run at once.{_default('batch_size')}",
    ),
    _process(
        "--threads",
        metavar="N",
        type=whole_number("threads"),
        help=f"CPU threads; 0 leaves it to the backend.{_default('threads')}",
    ),
)
# No part of a spec: results do not depend on them.
_WORKER_OPTIONS = (
    _process(
        "--workers",
        type=click.IntRange(min=1, max=MOST_WORKERS),
        metavar="N",
        help="Processes here that score maps side by side.",
    ),
    _process("--cluster", metavar="ADDRESS", help="Dask scheduler whose workers do, tcp://host:8786."),
)


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

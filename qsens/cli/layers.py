"""`qsens layers`: the layers of a generator with their parameters and multiply-accumulates."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qsens.cli.option_values import PluginOption, parse_plugin_option
from qsens.cli.repeated_options import one_value_each
from qsens.cli.sweep_flags import SweepOptions, spec_from_options
from qsens.cli.text import echo_json, text_table
from qsens.core.errors import SpecError
from qsens.core.layer import Layer
from qsens.core.other_work import OtherWork, other_work_text, share_in_layers

if TYPE_CHECKING:
    from qsens.graph.graph import Graph

HEADER = ("#", "name", "ONNX node", "block", "kind", "parameters", "MACs", "MACs (torchprofile)", "output")
CONVENTIONS = (
    "MACs: true multiply-accumulates for one sample; transposed convolutions counted at input resolution.\n"
    "MACs (torchprofile): as in Kim et al. 2023; transposed convolutions counted at output resolution, plus\n"
    "one for each output element of a folded batch normalisation."
)


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--model", metavar="NAME", help="Generator plug-in, or package.module:factory for torch.")
@click.option(
    "--input-shape",
    "input_shapes",
    metavar="NAME=SHAPE",
    multiple=True,
    help="Full shape of an input, for example image=1x3x96x96.",
)
@click.option(
    "--option",
    "model_options",
    multiple=True,
    type=parse_plugin_option,
    metavar="model.KEY=VALUE",
    help="Option of the generator plug-in.",
)
@click.option(
    "--calibration",
    metavar="SET",
    help="Samples that sizes and MACs are counted on; made-up inputs if absent.",
)
@click.option(
    "--spec", type=click.Path(path_type=Path), help="TOML file of a sweep, for its calibration set and rules."
)
@click.option(
    "--output",
    "output_name",
    multiple=True,
    metavar="NAME",
    help="Output that is scored: which layers reach none is said. Repeatable.",
)
@click.option("--trust-checkpoint", is_flag=True, help="Allow FILE to run code while it is read.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def layers(
    *,
    file: Path | None,
    model: str | None,
    input_shapes: Sequence[str],
    model_options: Sequence[PluginOption],
    calibration: str | None,
    spec: Path | None,
    output_name: tuple[str, ...],
    trust_checkpoint: bool,
    as_json: bool,
) -> None:
    """List the layers of the generator in FILE, in execution order."""
    from qsens.run.open import load_graph, open_generator
    from qsens.run.scored_layers import scored_graph
    from qsens.scoring.pictures import check_output

    if file is None and model is None:
        raise SpecError("no generator given", "name a file, or --model package.module:factory")
    shapes = one_value_each("--input-shape", map(parse_shape, input_shapes))
    options = _model_options(model_options)
    if shapes:
        options["input_shapes"] = shapes
    if trust_checkpoint:
        options["trust_checkpoint"] = True
    generator = open_generator(file, model, options)
    if generator.weights_read is not None:
        click.echo(f"Note: {generator.weights_read}", err=True)
    said = SweepOptions(calibration=calibration, spec=spec, output_name=output_name)
    found = spec_from_options(None, said)
    graph = load_graph(generator, shapes, None if found.calibration is None else found)
    if found.output.name is not None:
        check_output(graph.outputs, found.output)
        graph = scored_graph(graph, found.output.names)
    if as_json:
        echo_json({**graph_summary(graph), "weights_read": generator.weights_read})
    else:
        click.echo(graph_table(graph))


def _model_options(given: Sequence[PluginOption]) -> dict[str, object]:
    for option in given:
        if option.group != "model":
            raise SpecError(f"layers takes no option of a {option.group}", "write --option model.KEY=VALUE")
    return one_value_each("--option", ((option.name, option.value) for option in given))


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Read `image=1x3x96x96`.

    Raises:
        SpecError: quoting the text.

    >>> parse_shape("image=1x3x96x96")
    ('image', (1, 3, 96, 96))
    """
    name, _, sides = text.rpartition("=")
    numbers = sides.replace(",", "x").split("x")
    if not name or not all(number.isdecimal() and int(number) > 0 for number in numbers):
        raise SpecError(f"not an input shape: {text!r}", "write NAME=1x3x96x96, batch axis first")
    return name, tuple(int(number) for number in numbers)


def totals(found: Sequence[Layer]) -> dict[str, int]:
    """Sums over the layers; the parameters of a module that is used again count once."""
    parameters = {layer.name.partition("@")[0]: layer.parameters for layer in found}
    return {
        "layers": len(found),
        "parameters": sum(parameters.values()),
        "macs": sum(layer.macs for layer in found),
        "macs_torchprofile": sum(layer.macs_torchprofile for layer in found),
    }


def graph_table(graph: "Graph") -> str:
    """The table, its totals, and what the two conventions are."""
    from qsens.run.scored_layers import unscored_notes  # loads onnx

    rows = [
        (
            str(layer.index),
            layer.name,
            layer.node,
            layer.block,
            layer.kind,
            f"{layer.parameters:,}",
            f"{layer.macs:,}",
            f"{layer.macs_torchprofile:,}",
            _by(layer.output_shape),
        )
        for layer in graph.layers
    ]
    sums = totals(graph.layers)
    numbers = (f"{sums['parameters']:,}", f"{sums['macs']:,}", f"{sums['macs_torchprofile']:,}")
    rows.append(("", f"{sums['layers']} layers", "", "", "", *numbers, ""))
    inputs = ", ".join(f"{name} {_by(shape)}" for name, shape in graph.example_shapes)
    lines = [
        text_table(HEADER, rows, right=(0, 5, 6, 7)),
        "",
        f"inputs: {inputs}; outputs: {', '.join(graph.outputs)}; batch: {_batch_text(graph)}",
        *(f"Note: {note}" for note in (*graph.notes, *unscored_notes(graph.layers))),
    ]
    if graph.other_work:
        lines += ["", other_work_text(graph.layers, graph.other_work), "", other_work_table(graph.other_work)]
    return "\n".join([*lines, "", CONVENTIONS])


def _batch_text(graph: "Graph") -> str:
    if not graph.can_batch:
        return f"fixed at one ({graph.why_single})"
    shared = [repr(spec.name) for spec in graph.inputs if not spec.is_batched]
    return f"any size, of samples with the same {', '.join(shared)}" if shared else "any size"


def other_work_table(other: Sequence[OtherWork]) -> str:
    """Work that is no layer, in execution order."""
    rows = [(work.name, work.kind, f"{work.macs:,}" if work.macs else "?", work.reason) for work in other]
    return text_table(("no layer", "kind", "MACs", "because"), rows, right=(2,))


def graph_summary(graph: "Graph") -> dict[str, object]:
    """The same as plain values."""
    from qsens.run.scored_layers import unscored_notes  # loads onnx

    return {
        "layers": [{**asdict(layer), "allowed": sorted(layer.allowed)} for layer in graph.layers],
        "totals": totals(graph.layers),
        "inputs": [
            {"name": spec.name, "shape": spec.shape, "dtype": spec.dtype, "is_batched": spec.is_batched}
            for spec in graph.inputs
        ],
        "outputs": list(graph.outputs),
        "example_shapes": dict(graph.example_shapes),
        "can_batch": graph.can_batch,
        "why_single": graph.why_single,
        "notes": [*graph.notes, *unscored_notes(graph.layers)],
        "dynamic_weight_nodes": list(graph.dynamic_weight_nodes),
        "other_work": [asdict(work) for work in graph.other_work],
        "macs_share_in_layers": share_in_layers(graph.layers, graph.other_work),
        "digest": graph.digest,
    }


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"

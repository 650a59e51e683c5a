"""`qsens export`: a scored map as a bundle for a runtime."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qsens.cli.options import whole_number
from qsens.cli.text import echo_json

if TYPE_CHECKING:
    from qsens.deploy.bundle import ExportedBundle
    from qsens.deploy.float_fallback import AuditedEngine

TARGET_NAMES = ("tensorrt", "tensorrt-legacy", "openvino", "onnxruntime")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--for", "target", type=click.Choice(TARGET_NAMES), required=True, help="The runtime.")
@click.option(
    "--trial", "trials", multiple=True, type=click.IntRange(min=0), help="Trial; repeat for several."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write; RUN/bundle-TARGET without it.")
@click.option(
    "--batch", type=whole_number("batch_size"), default=1, show_default=True, help="Samples at once."
)
@click.option(
    "--goldens",
    type=click.IntRange(min=1, max=10_000),
    default=4,
    show_default=True,
    help="Golden samples to keep.",
)
@click.option("--strict", is_flag=True, help="Refuse an engine that does not run the map as it is (exit 4).")
@click.option("--trust-checkpoint", is_flag=True, help="Let the checkpoint run code while it loads.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line a bundle.")
def export(
    run: Path, *, trials: Sequence[int], trust_checkpoint: bool, as_json: bool, **options: Any
) -> None:
    """Write the selected map of the folder RUN as a bundle that rebuilds and checks itself.

    The map is the one that `qsens select` chose, or those of the named trials. Layers that the runtime has no
    INT8 kernel for are exported in float, and named; with --strict they are refused.
    """
    # onnx and onnxruntime take a second to load
    from qsens import api
    from qsens.deploy.bundle import ExportOptions
    from qsens.deploy.chosen_map import TARGETS

    wanted = ExportOptions(
        target=TARGETS[options["target"]],
        out=options["out"] or run / f"bundle-{options['target']}",
        batch=options["batch"],
        golden_samples=options["goldens"],
        strict=options["strict"],
    )
    for exported in api.export(run, wanted, trials=trials, trust_checkpoint=trust_checkpoint):
        if as_json:
            found = {"bundle": str(exported.folder), "digest": exported.digest, **exported.document}
            echo_json(found, indent=None)
        else:
            _show(exported)


def _show(exported: "ExportedBundle") -> None:
    """Say what was written, and loudly what is not as it was asked for."""
    document = exported.document
    mapped, title = document["map"], exported.title
    for line in _returned_lines(exported):
        click.echo(line, err=True)
    if exported.unaudited is not None:
        click.echo(
            f"Warning: not audited: {exported.unaudited}. Run verify.py of the bundle on the target", err=True
        )
    for problem in () if exported.compared is None else exported.compared.problems:
        click.echo(f"Warning: on this machine, {problem}", err=True)
    click.echo(
        f"Trial {document['scores']['trial']} for {title}, batch {document['batch']}: "
        f"{100 * mapped['int8_macs_share_deployed']:.1f}% of the multiply-accumulates in INT8"
    )
    if exported.agreed.engine is not None:
        engine = exported.agreed.engine
        click.echo(_audit_line(engine))
    for note in (*document["notes"], document["model"]["notice"]):
        if note:
            click.echo(f"Note: {note}", err=True)
    click.echo(
        f"\nWritten: {exported.folder}\nDigest: {exported.digest}\n"
        f"Check it: qsens verify {exported.folder} --digest {exported.digest}"
    )


def _audit_line(engine: "AuditedEngine") -> str:
    told = sum(row.actual is not None for row in engine.audit)
    text = f"{engine.runtime} {engine.version} runs {told} of {len(engine.audit)} layers as written down"
    untold = [row.layer for row in engine.audit if row.actual is None]
    if not untold:
        return f"{text}."
    named = ", ".join(untold[:3]) + (", ..." if len(untold) > 3 else "")
    return f"{text}; of the others it tells nothing: {named}."


def _returned_lines(exported: "ExportedBundle") -> list[str]:
    if not exported.returned:
        return []
    mapped = exported.document["map"]
    lines = [f"Warning: {len(exported.returned)} layers that were to be INT8 are exported in float:"]
    lines += [f"  {entry.layer} ({entry.node}): {entry.reason}" for entry in exported.returned]
    lines.append(
        f"  INT8 share of the multiply-accumulates: {100 * mapped['int8_macs_share_requested']:.1f}% asked, "
        f"{100 * mapped['int8_macs_share_deployed']:.1f}% exported"
    )
    if mapped["int8_macs_share_deployed"] == 0.0 < mapped["int8_macs_share_requested"]:
        lines.append(f"  Nothing is left in INT8: {exported.title} gains nothing from this map")
    if exported.document["target"] == "onnxruntime" and exported.document["run"]["placement"] != "dense":
        lines.append(
            "  ONNX Runtime runs a convolution in INT8 only where its result is quantized too: "
            "a sweep with --placement dense keeps more of them"
        )
    return lines

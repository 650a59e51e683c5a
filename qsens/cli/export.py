"""`qsens export`: a scored map as a bundle for a runtime."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qsens.cli.options import TARGETS_TEXT, whole_number
from qsens.cli.text import echo_json

if TYPE_CHECKING:
    from qsens.deploy.bundle import ExportedBundle
    from qsens.engines.float_fallback import AuditedEngine


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--for",
    "target",
    metavar="TARGET",
    help=f"The runtime: {TARGETS_TEXT}; without it that of the sweep.",
)
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
@click.option(
    "--float-fallback", "takes_back_to_float", is_flag=True, help="Export what cannot run in INT8 in float."
)
@click.option("--trust-checkpoint", is_flag=True, help="Let the checkpoint run code while it loads.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line a bundle.")
def export(
    run: Path,
    *,
    target: str | None,
    trials: Sequence[int],
    out: Path | None,
    batch: int,
    goldens: int,
    strict: bool,
    takes_back_to_float: bool,
    trust_checkpoint: bool,
    as_json: bool,
) -> None:
    """Write the selected map of the folder RUN as a bundle that rebuilds and checks itself.

    The map is the one that `qsens select` chose, or those of the named trials. Where the runtime has no INT8
    kernel for a layer, nothing is written; with --float-fallback such layers are named first and then
    exported in float. `qsens sweep --for TARGET` offers only what the runtime can run.
    """
    # onnx and onnxruntime take a second to load
    from qsens import api
    from qsens.deploy.bundle import ExportOptions

    found = api.export_target(run, target)
    wanted = ExportOptions(
        target=found,
        out=out or run / f"bundle-{found.name}",
        batch=batch,
        golden_samples=goldens,
        strict=strict,
        takes_back_to_float=takes_back_to_float,
    )
    for exported in api.export(run, wanted, trials=trials, trust_checkpoint=trust_checkpoint, hear=_hear):
        if as_json:
            values = {"bundle": str(exported.folder), "digest": exported.digest, **exported.document}
            echo_json(values, indent=None)
        else:
            _show(exported)


def _hear(line: str) -> None:
    click.echo(line, err=True)


def _show(exported: "ExportedBundle") -> None:
    """Say what was written, and loudly what is not as it was asked for."""
    document = exported.document
    title = exported.title
    if exported.unaudited is not None:
        click.echo(
            f"Warning: not audited: {exported.unaudited}. Run verify.py of the bundle on the target", err=True
        )
    for problem in () if exported.compared is None else exported.compared.problems:
        click.echo(f"Warning: on this machine, {problem}", err=True)
    click.echo(
        f"Trial {document['scores']['trial']} for {title}, batch {document['batch']}: {_share_text(document)}"
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


def _share_text(document: Mapping[str, Any]) -> str:
    share, work = f"{100 * document['map']['int8_macs_share_deployed']:.1f}%", document.get("all_work")
    if work is None:
        return f"{share} of the multiply-accumulates in INT8"
    return (
        f"{share} of the layers' multiply-accumulates in INT8, {100 * work['int8_share']:.1f}% of all work. "
        f"{work['text']}"
    )

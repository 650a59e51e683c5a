"""`qsens verify`: rebuild a bundle's engine, audit it, compare its pictures, score it again."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qsens.cli.options import gathered
from qsens.cli.text import echo_json, text_table
from qsens.core.errors import SpecError, VerificationError
from qsens.python.progress import ProgressLine

if TYPE_CHECKING:
    from qsens.deploy.verify import CheckedFiles, ComparedScore


@dataclass(frozen=True)
class VerifyFlags:
    """The wishes of the flags."""

    digest: str | None
    no_latency: bool
    repeats: int
    latency_json: Path | None
    scores: bool
    data: Path | None
    run: Path | None
    compile_only: bool
    trust_checkpoint: bool
    host: str | None
    python: str
    as_json: bool


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--digest", metavar="HEX", help="What qsens export printed; another bundle is refused.")
@click.option("--no-latency", is_flag=True, help="Do not measure.")
@click.option(
    "--repeats", type=click.IntRange(min=1, max=1_000_000), default=50, show_default=True, help="Timed runs."
)
@click.option("--latency-json", type=click.Path(path_type=Path), help="Write the latency for `qsens select`.")
@click.option("--score", "scores", is_flag=True, help="Score the engine on the run's evaluation set.")
@click.option("--data", type=click.Path(path_type=Path), help="Where that set is now.")
@click.option("--run", type=click.Path(path_type=Path), help="The run, where it is not where it was.")
@click.option("--compile-only", is_flag=True, help="Compile only, where that needs no device; run nothing.")
@click.option("--trust-checkpoint", is_flag=True, help="Let the checkpoint run code while it loads.")
@click.option("--on", "host", metavar="USER@HOST", help="Check it on this device, over the system's ssh.")
@click.option("--python", default="python3", show_default=True, metavar="PATH", help="Python on that device.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@gathered(VerifyFlags, "asked")
def verify(bundle: Path, *, asked: VerifyFlags) -> None:
    """Rebuild the engine of the folder BUNDLE, audit its layers, compare its pictures, measure its latency.

    The verify.py in the bundle does the same on a device without qsens. Exit code 1: it is damaged or cannot
    be built here; 4: a layer runs in another precision, or pictures or scores are not what they should be.
    """
    from qsens.deploy.bundle_script import is_digest
    from qsens.deploy.verify import checked_files  # loads NumPy and onnx

    if asked.digest is not None and not is_digest(asked.digest):
        raise SpecError(f"{asked.digest!r} is no digest", "give the 64 digits that qsens export printed")
    if asked.no_latency and asked.latency_json is not None:
        raise SpecError("--latency-json needs what --no-latency leaves out", "give one of the two")
    checked = checked_files(bundle, asked.digest)
    if asked.compile_only:
        if asked.scores or asked.latency_json or asked.host:
            raise SpecError("--compile-only runs nothing", "leave --score, --latency-json and --on out")
        _compile(checked, as_json=asked.as_json)
        return
    failures = _check(checked, asked) if asked.host is None else _check_there(checked, asked, asked.host)
    if not failures and not asked.as_json:
        click.echo(f"\n{_next_text(bundle, asked.host)}")
    if failures:
        raise VerificationError(
            "; ".join(failures),
            "what runs here is not what was scored: export again, or pin layers to float",
        )


def _next_text(bundle: Path, host: str | None) -> str:
    """The next steps with a bundle that is right."""
    run_it = f"{bundle / 'README.md'} shows how to run it"
    if host is not None:
        return f"Next: {run_it}."
    return (
        f"Next: copy {bundle} to its device, where `python verify.py --digest HEX` checks it without qsens "
        f"(or from here: qsens verify {bundle} --on USER@HOST). {run_it}."
    )


def _check(checked: "CheckedFiles", asked: VerifyFlags) -> list[str]:
    """Check and print; returns what is wrong."""
    from qsens.deploy.verify import verify_engine, write_bundle_latency
    from qsens.device.check import report_problems, report_text

    report = verify_engine(checked, repeats=0 if asked.no_latency else asked.repeats)
    if asked.latency_json is not None:
        write_bundle_latency(report, asked.latency_json)
    if not asked.as_json:
        click.echo(report_text(report))
    scores = _scored(checked, asked) if asked.scores else ()
    failures = report_problems(report) + [score.text for score in scores if score.is_worse]
    if asked.as_json:
        found = [{**asdict(score), "is_worse": score.is_worse} for score in scores]
        exit_code = VerificationError.exit_code if failures else 0
        verdict = {"ok": not failures, "exit_code": exit_code, "scores": found}
        echo_json({**report.to_json(), **verdict})
    elif scores:
        click.echo(f"\n{_scores_table(scores)}")
    return failures


def _check_there(checked: "CheckedFiles", asked: VerifyFlags, host: str) -> list[str]:
    """Check on a device and print; returns what is wrong."""
    from qsens.deploy.ssh import Device
    from qsens.deploy.there import verify_there
    from qsens.deploy.verify import write_bundle_latency

    if asked.scores:
        raise SpecError("--score runs here, not on another device", "leave --on or --score out")
    with Device(host, asked.python) as device:
        found = verify_there(checked, device, repeats=0 if asked.no_latency else asked.repeats)
    if asked.latency_json is not None:
        write_bundle_latency(found, asked.latency_json)
    if asked.as_json:
        echo_json({**found.report, "host": host, "scores": []})
    else:
        click.echo(found.text)
    return list(found.problems)


def _scored(checked: "CheckedFiles", asked: VerifyFlags) -> "tuple[ComparedScore, ...]":
    from qsens.deploy.verify import run_of_bundle, score_again  # loads the run's plug-ins

    run = run_of_bundle(checked.bundle, asked.run, asked.data, trust_checkpoint=asked.trust_checkpoint)
    with ProgressLine() as progress:
        return score_again(checked.bundle, run, progress)


def _scores_table(scores: "Sequence[ComparedScore]") -> str:
    rows = [
        (
            "!" if score.is_worse else "",
            score.metric,
            f"{score.expected:.4g}",
            f"{score.found:.4g}",
            f"{score.allowance:.2g}",
        )
        for score in scores
    ]
    return text_table(("", "score", "the run", "this engine", "may be worse by"), rows, right=(2, 3, 4))


def _compile(checked: "CheckedFiles", *, as_json: bool) -> None:
    from qsens.deploy.verify import PROVES, compile_only
    from qsens.device.check import audit_text

    compiled = compile_only(checked)
    if as_json:
        layers = [row.to_json() for row in compiled.audit]
        plain = {"compiled": True, "version": compiled.version, "plan_bytes": compiled.plan_bytes}
        echo_json({**plain, "layers": layers, "warnings": list(compiled.warnings)})
        return
    click.echo(
        f"TensorRT-RTX {compiled.version} compiled the graph: {compiled.plan_bytes / 2**20:.2f} MiB.\n"
        f"\n{audit_text(compiled.audit)}\n\n{PROVES}"
    )

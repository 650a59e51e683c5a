"""`qsens demo`: the whole journey on a generator and data that are at hand, nothing downloaded."""

from pathlib import Path
from typing import Any

import click

from qsens.cli.options import spec_from_options, sweep_options, worker_options
from qsens.core.errors import SpecError

# The first of these that is installed runs when none is named.
PREFERRED = ("talker", "style")


@click.command()
@click.option("--generator", "name", metavar="NAME", help="Which demo: talker (the default) or style.")
@sweep_options
@worker_options
def demo(name: str | None, **options: Any) -> None:
    """Sweep a small trained generator, choose a map and write a report.

    `talker` is a speech-driven talking-face generator on a procedural corpus; `style` is a style-transfer
    network on photographs (needs the extra `demo`). Takes the options of `sweep`. A few minutes on two
    cores; run it again to resume or to see the result once more.
    """
    # numpy, onnx and Pillow take a second to load
    from qsens.cli.sweep import PlannedRun, check_worker_options, sweep_and_finish
    from qsens.core.plugins import create, names
    from qsens.run.workers import open_pool
    from qsens.scoring.extractors import user_cache_folder

    check_worker_options(options)
    name = name or next((known for known in PREFERRED if known in names("demos")), None)
    if name is None:
        raise SpecError("no demo is installed", "see: qsens plugins")
    chosen = create("demos", name, {})
    base = dict(chosen.spec_values(user_cache_folder() / "demo"))
    if options.get("metrics") and "fid" not in options["metrics"]:
        base.pop("budget", None)  # a share of FP32's distance to real images
    if options.get("strategy"):
        base.pop("strategy_options", None)  # those of the demo's own strategy
    spec = spec_from_options(None, options, base)
    for line in chosen.notes():
        click.echo(line)
    trust_checkpoint = bool(options.get("trust_checkpoint"))
    out = options.get("out") or Path("reports") / f"demo-{name}"
    run = PlannedRun(spec, out, trust_checkpoint)
    with open_pool(options["workers"], options["cluster"]) as pool:
        finished = sweep_and_finish(run, as_json=False, pool=pool)
    if finished.failure is not None:
        raise finished.failure

"""`qsens demo`: the whole journey on a small trained generator and photographs, nothing downloaded."""

from pathlib import Path
from typing import Any

import click

from qsens.cli.options import spec_from_options, sweep_options

DEFAULT_OUT = Path("reports") / "demo"


@click.command()
@sweep_options
def demo(**options: Any) -> None:
    """Sweep a trained style-transfer network over photographs, choose a map and write a report.

    Takes the options of `sweep`. Needs the extra `demo`. A few minutes on two cores; run it again to
    resume or to see the result once more.
    """
    # scikit-image and onnx take a second to load
    from qsens.cli.sweep import PlannedRun, sweep_and_finish
    from qsens.demo import demo_notes, demo_spec_values
    from qsens.metrics.extractors import user_cache_folder

    base = dict(demo_spec_values(user_cache_folder() / "demo"))
    if options.get("metrics") and "fid" not in options["metrics"]:
        del base["budget"]  # a share of FP32's distance to real images
    spec = spec_from_options(None, options, base)
    for line in demo_notes():
        click.echo(line)
    trust_checkpoint = bool(options.get("trust_checkpoint"))
    run = PlannedRun(spec, options.get("out") or DEFAULT_OUT, trust_checkpoint)
    finished = sweep_and_finish(run, as_json=False)
    if finished.failure is not None:
        raise finished.failure

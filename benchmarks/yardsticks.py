"""The scale of a demo's scores: FP32's pictures after familiar alterations, and INT8 everywhere beside them.

python benchmarks/yardsticks.py [--generator talker] [--placements dense residual]
    [--ranges minmax mse entropy percentile] [--keep FOLDER]

First the scores of FP32's own pictures after each alteration, with half the 95 % interval of the difference
from FP32 (of the score itself where it is such a difference). Then INT8 in every layer by placement and range
method, without repair, and the JPEG qualities between which each score puts it. One thread.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from machine import limit_math_threads, print_machine

from qsens.api import score_maps
from qsens.core.alterations import title_of
from qsens.core.interfaces import Strategy
from qsens.core.layer import Layer
from qsens.core.metric_names import Z95
from qsens.core.plugins import create
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import RANGE_METHODS, SweepSpec, spec_from_values
from qsens.core.trial import Score, Study, Trial, Yardstick
from qsens.run.open import open_sweep
from qsens.selection.yardsticks import ladder_of, place_of

METRICS = ("fid", "fid-fp32", "psnr", "ssim")
ALTERATIONS = (
    *("jpeg:98", "jpeg:95", "jpeg:90", "jpeg:75", "jpeg:50"),
    *("noise:0.5", "noise:1", "noise:2", "noise:4", "blur:0.5", "blur:1", "brightness:0.99"),
)


class AnchorsOnly(Strategy):
    """Asks for no map: FP32, FP16 and INT8 everywhere are scored all the same."""

    name = "anchors-only"

    def propose(self, layers: Sequence[Layer], trials: Sequence[Trial]) -> list[PrecisionMap]:
        """None."""
        return []


def main() -> None:
    """Print both tables."""
    options = parsed_options()
    limit_math_threads(1)
    print_machine()
    with tempfile.TemporaryDirectory(prefix="qsens-yardsticks-") as temporary:
        keep = options.keep or Path(temporary)
        first: Study | None = None
        for placement in options.placements:
            for ranges in options.ranges:
                spec = demo_spec(options.generator, keep / "sets")
                spec = replace(spec, placement=placement, range_method=ranges)
                spec = replace(spec, yardsticks=ALTERATIONS if first is None else ())
                study = scored(spec, keep / f"{options.generator}-{placement}-{ranges}")
                if first is None:
                    first = study
                    print_scale(study)
                print_row(f"INT8, {placement}, {ranges}", study.anchors[Precision.INT8], first)


def demo_spec(name: str, sets: Path) -> SweepSpec:
    """The demo's spec with the metrics of the table, unrepaired."""
    values = dict(create("demos", name, {}).spec_values(sets))
    values.pop("strategy_options", None)
    values.pop("target", None)
    values |= {
        "metrics": list(METRICS),
        "threads": 1,
        "repair": "none",
        "budget": "1",
        "strategy": "boundary",
    }
    return spec_from_values(values, "benchmark")


def scored(spec: SweepSpec, out: Path) -> Study:
    """The uniform maps of a spec, and its yardsticks."""
    return score_maps(replace(open_sweep(spec), strategy=AnchorsOnly()), out)


def print_scale(study: Study) -> None:
    """A line for FP32 and for each of its yardsticks."""
    print(f"{'':<28}" + "".join(f"{metric:>22}" for metric in study.metrics), flush=True)
    print_row("FP32", study.anchors[Precision.FP32], study)
    for entry in study.yardsticks:
        print_row(title_of(entry.alteration), entry, study)


def print_row(label: str, scores: Trial | Yardstick, study: Study) -> None:
    """The scores of a map or an alteration; of INT8 also its place among the JPEGs of `study`."""
    found = [scores.score(metric) for metric in study.metrics]
    print(f"{label:<28}" + "".join(f"{text_of(score):>22}" for score in found), flush=True)
    if isinstance(scores, Trial) and scores.requested != PrecisionMap(Precision.FP32):
        ladder = ladder_of(study)
        places = (f"{score.metric}: {place_of(score, ladder)}" for score in found if score is not None)
        print(f"{'':<28}{'; '.join(places)}", flush=True)


def text_of(score: Score | None) -> str:
    """The value and half its interval."""
    if score is None:
        return "-"
    error = score.difference_standard_error or score.standard_error
    return f"{score.value:.4g}" + (f" ± {Z95 * error:.2g}" if error else "")


def parsed_options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--generator", default="talker")
    parser.add_argument("--placements", nargs="+", default=["dense", "residual"])
    parser.add_argument("--ranges", nargs="+", choices=RANGE_METHODS, default=list(RANGE_METHODS))
    parser.add_argument("--keep", type=Path, default=None)
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""What people see of the demo's maps, beside what the other scores say: ColorVideoVDP's JOD on its clips.

python benchmarks/visible.py [--generator talker] [--metrics fid-fp32 psnr flicker jod] [--keep FOLDER]

Rows: FP32, FP16 and INT8 everywhere, INT8 but for the output block, INT8 but for the last layer, each as the
demo's target runs it, repaired as there; FP32's own pictures after the demo's yardsticks and a few more. ±
is half the 95 % interval of the difference from FP32 (of the score itself where it is such a difference).
`jod` needs the extra of that name, and judges the frames of a clip as a video. Below the table, by the last
metric, the clips that each map does most harm. One thread.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from machine import limit_math_threads, print_machine
from yardsticks import text_of

from qsens.api import score_maps
from qsens.core.alterations import title_of
from qsens.core.interfaces import Strategy
from qsens.core.layer import Layer, map_of
from qsens.core.maps import int8_share, map_title
from qsens.core.plugins import create
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import spec_from_values
from qsens.core.trial import Study, Trial, Yardstick
from qsens.run.evidence import load_evidence
from qsens.run.open import open_sweep
from qsens.run.paths import RunPaths

METRICS = ("fid-fp32", "psnr", "flicker", "jod")
ALTERATIONS = ("jpeg:98", "jpeg:95", "jpeg:90", "jpeg:75", "jpeg:50", "noise:1", "noise:2", "blur:0.5")


class EndsInFloat(Strategy):
    """Asks for INT8 but for the last block, and but for the last layer."""

    name = "ends-in-float"

    def propose(self, layers: Sequence[Layer], trials: Sequence[Trial]) -> list[PrecisionMap]:
        """Both maps, once."""
        last = layers[-1]
        wished = [
            [layer.name for layer in layers if layer.block == last.block],
            [last.name],
        ]
        maps = [
            map_of(
                layers,
                {layer.name: Precision.FP16 if layer.name in kept else Precision.INT8 for layer in layers},
            )
            for kept in wished
        ]
        tried = {trial.requested for trial in trials}
        return [one for one in maps if one not in tried]


def main() -> None:
    """Print the table."""
    options = parsed_options()
    limit_math_threads(1)
    print_machine()
    with tempfile.TemporaryDirectory(prefix="qsens-visible-") as temporary:
        keep = options.keep or Path(temporary)
        values = dict(create("demos", options.generator, {}).spec_values(keep / "sets"))
        values.pop("strategy_options", None)
        values |= {"metrics": options.metrics, "threads": 1, "strategy": "boundary", "budget": "jpeg:95"}
        values |= {"yardsticks": list(ALTERATIONS), "screen_samples": 0}
        spec = spec_from_values(values, "benchmark")
        study = score_maps(replace(open_sweep(spec), strategy=EndsInFloat()), keep / options.generator)
        print(f"{'':<42}" + "".join(f"{metric:>20}" for metric in study.metrics), flush=True)
        for trial in study.scored():
            share = f"{100 * int8_share(study, trial):.1f}%"
            print_scores(f"{map_title(trial.requested, study.layers)}, {share}", trial, study)
        for entry in study.yardsticks:
            print_scores(title_of(entry.alteration), entry, study)
        evidence = RunPaths(keep / options.generator).evidence
        for trial in study.scored():
            print_clips(map_title(trial.requested, study.layers), trial, evidence, options.metrics[-1])


def print_clips(label: str, trial: Trial, folder: Path, metric: str) -> None:
    """The median clip by the last metric, and the three that differ most from FP32."""
    evidence, score = load_evidence(folder, trial.number), trial.score(metric)
    if evidence is None or evidence.clusters is None or score is None or metric not in evidence.influences:
        return
    values = score.value + evidence.influences[metric]
    clips = np.array([values[evidence.clusters == clip].mean() for clip in np.unique(evidence.clusters)])
    worst = np.sort(clips if score.lower_is_better is False else -clips)[:3]
    listed = ", ".join(f"{abs(value):.4g}" for value in worst)
    print(f"{label}: {metric} of {len(clips)} clips, median {np.median(clips):.4g}, worst {listed}")


def print_scores(label: str, scores: Trial | Yardstick, study: Study) -> None:
    """A line: the map or the alteration, and each score."""
    found = (text_of(scores.score(metric)) for metric in study.metrics)
    print(f"{label[:40]:<42}" + "".join(f"{text:>20}" for text in found), flush=True)


def parsed_options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--generator", default="talker")
    parser.add_argument("--metrics", nargs="+", default=list(METRICS))
    parser.add_argument("--keep", type=Path, default=None)
    return parser.parse_args()


if __name__ == "__main__":
    main()

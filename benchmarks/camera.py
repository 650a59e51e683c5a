"""Whether real frames with camera noise and JPEG bring the demo's scale nearer to that of photographs.

python benchmarks/camera.py RUN

RUN is a run folder of the talker's demo (`bash run demo`), of which FP32's pictures are taken. `fid[lite0]`
of FP32's pictures to the real frames, and what familiar alterations of FP32's pictures add to it: with frames
as the corpus draws them, and with what a camera adds to them, noise and then JPEG. FP32's pictures have none
of that: a network that is trained to the mean of what it is shown cannot draw noise that its input does not
tell. Last, photographs in the place of both: those of the style demo, inputs against real ones. One thread.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import limit_math_threads, print_machine

from qsens.calibration.real_images import RealImages, open_real_images
from qsens.cli.demo import write_demo_sets
from qsens.core.alterations import Alteration
from qsens.core.interfaces import Extractor
from qsens.run.folder import read_run_spec
from qsens.run.open import open_sweep
from qsens.scoring.alterations import altered
from qsens.scoring.frechet import Reference, frechet_distance

Images = np.ndarray[Any, np.dtype[np.uint8]]
CAMERA = ("noise:1", "jpeg:95")
ALTERATIONS = ("jpeg:98", "jpeg:95", "jpeg:75", "noise:1")
LINE = "{:<34}" + 5 * "{:>10}"


def main() -> None:
    """Print a line for each pair of real pictures and FP32's."""
    run = parsed_options().run
    limit_math_threads(1)
    print_machine()
    job = open_sweep(replace(read_run_spec(run), metrics=("fid",), extractor=("lite0",), threads=1))
    assert job.extractor is not None, "fid reads features"
    assert job.reference is not None, "the demo has real frames"
    fp32 = np.load(run / "evidence" / "fp32-images.npy")
    print(LINE.format("real pictures", "FP32", *ALTERATIONS), flush=True)
    frames = pictures_of(job.reference)
    print_line("frames as they are drawn", frames, fp32, job.extractor)
    print_line(f"frames after {', '.join(CAMERA)}", through(frames, CAMERA, seed=1), fp32, job.extractor)
    with tempfile.TemporaryDirectory(prefix="qsens-camera-") as temporary:
        inputs, real = (pictures_of(open_real_images(folder)) for folder in write_demo_sets(Path(temporary)))
    print_line("photographs", real, inputs, job.extractor)


def print_line(label: str, real: Images, pictures: Images, extractor: Extractor) -> None:
    """The distance of pictures to real ones, and what each alteration adds."""
    reference = Reference.from_features(extractor.run(real), extractor.identity)
    plain = frechet_distance(reference, extractor.run(pictures))
    added = [
        frechet_distance(reference, extractor.run(through(pictures, (alteration,), seed=3))) - plain
        for alteration in ALTERATIONS
    ]
    print(LINE.format(label, f"{plain:.1f}", *(f"{value:+.2f}" for value in added)), flush=True)


def pictures_of(images: RealImages) -> Images:
    """All of them, uint8 (N, 3, H, W)."""
    return np.stack([images.image(index) for index in range(len(images))])


def through(images: Images, camera: Sequence[str], *, seed: int) -> Images:
    """Pictures after each alteration in turn, uint8 (N, 3, H, W)."""
    for text in camera:
        images = altered(images, Alteration.parse(text), seed=seed)
    return images


def parsed_options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()

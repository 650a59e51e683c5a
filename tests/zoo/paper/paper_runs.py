"""Finished sweeps for tests of tables and figures, made of numbers, without running anything."""

from pathlib import Path

import numpy as np

from qsens.core.layer import Layer
from qsens.core.maps import anchor_maps
from qsens.core.precision import Precision
from qsens.core.trial import Outcome, Score, Study, Trial
from qsens.search.enumerations import Boundary, Ends
from qsens.zoo.paper.runs import SweptRun
from qsens.zoo.wav2lip.architecture import layers_of
from qsens.zoo.wav2lip.variants import VARIANTS, layer_names

AGAINST = "lite0/test"


class PaintedSet:
    """Samples of flat colours: sample i belongs to clip i // 5 and shows the grey level 10 + i."""

    clusters = None
    name = "painted"

    def __init__(self, count=30, digest="painted"):
        self.count = count
        self.digest = digest

    def __len__(self):
        return self.count

    def sample(self, index):
        face = np.zeros((6, 96, 96), np.float32)
        face[3] = 1.0  # blue of the reference, BGR
        return {"mel": np.zeros((1, 80, 16), np.float32), "face": face}

    def annotation(self, index):
        return {
            "clip": f"s{index // 5}/00000",
            "frame": index,
            "target": np.full((3, 96, 96), 10 + index, np.uint8),
        }


def family_layers(variant, order="execution"):
    architecture = VARIANTS[variant]
    blocks = {layer.module: layer.block for layer in layers_of(architecture)}
    return tuple(
        Layer(name, name, "Conv", blocks[name], index, 1000, 100, 120, (1, 4, 8, 8))
        for index, name in enumerate(layer_names(architecture, order=order))
    )


def scores_of(number, in_int8):
    """FID 50 and one more for each layer in INT8; mouth-sync falls."""
    error = None if number == 0 else 0.25
    fid = Score("fid[lite0]", 50.0 + in_int8, 30, AGAINST, lower_is_better=True, standard_error=2.0)
    sync = Score("mouth-sync", 0.9 - in_int8 / 1000, 30, AGAINST, lower_is_better=False)
    if error is not None:
        fid = Score(**{**vars(fid), "difference": float(in_int8), "difference_standard_error": error})
    return (fid, sync)


def swept_run(
    variant, folder=Path("sweep-student"), *, strategy=None, order="execution", count=30, note="no"
):
    layers = family_layers(variant, order)
    strategy = strategy or Boundary()
    maps = list(dict.fromkeys([*anchor_maps(layers).values(), *strategy.propose(layers, [])]))
    trials = []
    for number, wanted in enumerate(maps):
        in_int8 = sum(wanted[layer.name] is Precision.INT8 for layer in layers)
        scores = scores_of(number, in_int8)
        trials.append(Trial(number, wanted, wanted, Outcome.SCORED, scores, size_bytes=1000))
    return SweptRun(
        folder=folder,
        study=Study("digest", layers, tuple(trials)),
        evaluation=PaintedSet(count),
        architecture=VARIANTS[variant],
        generator="drawn",
        lip_sync_note=note,
    )


def student_run(folder=Path("sweep-student"), **changes):
    return swept_run("student", folder, **changes)


def teacher_run(folder=Path("sweep-teacher")):
    return swept_run("teacher", folder, strategy=Ends(by="block", first=2, last=3), order="definition")


def keep_pictures(run, numbers):
    """Pictures as a sweep keeps them: grey levels that tell trial and sample."""
    samples = run.folder / "samples"
    samples.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        levels = np.arange(6)[:, None, None, None] * 20 + number
        images = np.broadcast_to(levels, (6, 3, 96, 96)).astype(np.uint8)
        np.savez(samples / f"trial-{number:04d}.npz", images=images)

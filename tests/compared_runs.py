"""Small run folders for the tests of comparisons, written by the real run folder."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from qsens.core.layer import uniform_map
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import SweepSpec
from qsens.core.trial import Outcome, Score, Trial
from qsens.run.evidence import Evidence, save_evidence
from qsens.run.folder import RunFolder
from qsens.testing import example_layers

IMAGES = 64
SPEC = SweepSpec(strategy="boundary")
LAYERS = example_layers(4)
CONTENTS = {"generator": "a" * 64, "graph": "b" * 64, "evaluation": "e" * 64, "reference": "f" * 64}
EXTRACTOR = "lite0/raw/0123456789abcdef"


def fid_against(reference="f" * 64, evaluation="e" * 64, extractor=EXTRACTOR):
    return f"{extractor} reference={reference} evaluation={evaluation}"


def maps_of(layers):
    """The anchors, then every boundary with INT8 first."""
    cuts = [
        PrecisionMap.over(
            {layer.name: Precision.INT8 if layer.index < boundary else Precision.FP16 for layer in layers}
        )
        for boundary in range(1, len(layers))
    ]
    return [PrecisionMap(Precision.FP32), *(uniform_map(layers, p) for p in list(Precision)[1:]), *cuts]


def influence_of(number, level=1.0, images=IMAGES, seed=0):
    """What all maps share, and a part of the map's own."""
    shared = np.random.default_rng(seed).normal(size=images)
    own = np.random.default_rng(100 + number).normal(size=images)
    values = level * shared + (0.0 if number == 0 else 0.2) * own
    return values - values.mean()


def trial_of(number, requested, layers, *, fp32=10.0, damage=1.0, against=None, images=IMAGES):
    """FID `fp32` plus `damage` for each INT8 layer; the distance to FP32 is the damage alone."""
    lost = damage * sum(requested[layer.name] is Precision.INT8 for layer in layers)
    is_fp32 = number == 0
    values = influence_of(number, images=images)
    error = float(values.std(ddof=1) / np.sqrt(images))
    against = fid_against() if against is None else against
    psnr_against = f"fp32 evaluation={'e' * 64}"
    scores = (
        Score("fid[lite0]", fp32 + lost, images, against, True, error, lost, 0.0 if is_fp32 else 0.2),
        Score(
            "psnr", 100.0 if is_fp32 else 60 - 5 * lost, images, psnr_against, False, 0.0 if is_fp32 else 0.1
        ),
    )
    return Trial(number, requested, requested, Outcome.SCORED, scores, size_bytes=1_000_000 + number)


def write_compared_run(
    path: Path,
    *,
    spec=SPEC,
    layers=LAYERS,
    contents=CONTENTS,
    count=None,
    change=lambda trial: trial,
    has_evidence=True,
    images=IMAGES,
    **trial_values,
) -> Path:
    """A run over the maps of `maps_of`, its first `count` only; `change` may replace each trial."""
    with RunFolder.open(path, spec) as folder:
        folder.write_layers(layers)
        folder.record_provenance(contents)
        for number, requested in enumerate(maps_of(layers)[:count]):
            trial = change(trial_of(number, requested, layers, images=images, **trial_values))
            folder.journal.append(trial)
            if has_evidence:
                influences = {"fid[lite0]": influence_of(number, images=images)}
                save_evidence(folder.evidence, number, Evidence(None, influences))
    return path


def with_against(trial, metric, against):
    """The trial with another `against` of one score."""
    scores = tuple(
        replace(score, against=against) if score.metric == metric else score for score in trial.scores
    )
    return replace(trial, scores=scores)

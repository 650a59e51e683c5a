"""Studies made up for the report tests: the Wav2Lip student and teacher, three kinds of sweep."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qsens.core.layer import Layer
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Score, Study, Trial

STUDENT_MACS = (
    92160, 497664, 248832, 165888, 73728, 16384, 10838016, 663552, 663552, 663552, 663552, 663552, 147456,
    16384, 16384, 294912, 2654208, 5971968, 10616832, 13271040, 13271040, 13271040, 221184,
)  # fmt: skip
STUDENT_NAMES = (
    *("AE0", "AE1", "AE2", "AE3", "AE4.0", "AE4.1"),
    *("FE0", "FE1", "FE2", "FE3", "FE4", "FE5", "FE6.0", "FE6.1"),
    *("FD0", "FD1", "FD2", "FD3", "FD4", "FD5", "FD6", "OUT.0", "OUT.1"),
)
METRICS = ("fid[lite0]", "fid-fp32[lite0]", "psnr")
IMAGES = 512
AGAINST = "lite0/raw/abc"
# A PNG of one white pixel.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c63f80f00010101"
    "001bb6ee560000000049454e44ae426082"
)


def layer(index: int, name: str, block: str, macs: int, **more) -> Layer:
    shape = (1, 16, 48, 48)
    return Layer(name, f"/{name}/Conv", "Conv", block, index, macs // 20 + 8, macs, macs * 2, shape, **more)


def student_layers() -> tuple[Layer, ...]:
    return tuple(
        layer(index, name, name.partition(".")[0], macs)
        for index, (name, macs) in enumerate(zip(STUDENT_NAMES, STUDENT_MACS, strict=True))
    )


def teacher_layers() -> tuple[Layer, ...]:
    """51 layers with the long names that a torch module gives."""
    counts = {
        "audio_encoder": (3, 3, 3, 2, 2),
        "face_encoder_blocks": (1, 3, 4, 3, 3, 2, 2),
        "face_decoder_blocks": (1, 2, 3, 3, 3, 3, 3),
        "output_block": (2,),
    }
    layers: list[Layer] = []
    for stem, sizes in counts.items():
        for block, size in enumerate(sizes):
            name = stem if stem == "output_block" else f"{stem}.{block}"
            for inside in range(size):
                macs = 10**6 * (1 + (len(layers) * 7) % 40)
                layers.append(layer(len(layers), f"{name}.{inside}.conv_block.0", name, macs))
    return tuple(layers)


def style_layers() -> tuple[Layer, ...]:
    """18 layers of a style-transfer network without numbered stems."""
    blocks = ["encode_1", "encode_2", "encode_3"]
    blocks += [f"residual_{i}" for i in range(1, 7) for _ in range(2)] + [
        "upsample_a",
        "upsample_b",
        "to_rgb",
    ]
    return tuple(layer(i, f"{block}.conv{i}", block, 10**6 * (1 + i)) for i, block in enumerate(blocks))


def map_of(layers: Sequence[Layer], int8: Sequence[int], other: Precision = Precision.FP16) -> PrecisionMap:
    chosen = set(int8)
    return PrecisionMap.over(
        {entry.name: Precision.INT8 if entry.index in chosen else other for entry in layers}
    )


def damage_of(layers: Sequence[Layer], precision_map: PrecisionMap) -> float:
    """A made-up truth: small damage everywhere, a collapse where the output block is in INT8."""
    total = len(layers)
    damage = 0.0
    for entry in layers:
        if precision_map[entry.name] is Precision.INT8:
            damage += 0.05 + 0.15 * math.sin(entry.index) ** 2
            damage += {total - 1: 60.0, total - 2: 85.0}.get(entry.index, 0.0)
    return damage


def trial(number: int, layers: Sequence[Layer], requested: PrecisionMap, **more) -> Trial:
    damage = damage_of(layers, requested)
    is_baseline = requested == PrecisionMap(Precision.FP32)
    halves = sum(requested[entry.name] is not Precision.FP32 for entry in layers) > 0
    to_fp32 = 0.0 if is_baseline else 0.002 + damage * 0.95
    psnr = (
        math.inf
        if is_baseline
        else 62.0 - 9.0 * math.log10(1 + damage * 20) + 20.0 * (damage == 0 and halves)
    )
    error = 0.05 + 0.03 * damage
    wiggle = -0.25 if 0 < damage < 2 else 0.0
    scores = (
        Score(
            METRICS[0],
            5.30 + damage + wiggle,
            IMAGES,
            AGAINST,
            lower_is_better=True,
            standard_error=0.8 + 0.03 * damage,
            difference=damage + wiggle,
            difference_standard_error=0.0 if is_baseline else error,
        ),
        Score(METRICS[1], to_fp32, IMAGES, AGAINST, True, 0.0 if is_baseline else 0.02 + 0.02 * damage),
        Score(METRICS[2], psnr, IMAGES, AGAINST, False, None if is_baseline else 0.3),
    )
    fields = {"applied": requested, "scores": scores, "size_bytes": 5_000_000, "duration_s": 3.2}
    return Trial(number, requested, outcome=Outcome.SCORED, **{**fields, **more})


def failed(number: int, requested: PrecisionMap, error: str) -> Trial:
    return Trial(number, requested, None, Outcome.FAILED, error=error, duration_s=0.4)


def anchors(layers: Sequence[Layer]) -> list[Trial]:
    return [trial(number, layers, PrecisionMap(precision)) for number, precision in enumerate(Precision)]


def boundary_study(layers: Sequence[Layer]) -> Study:
    trials, total = anchors(layers), len(layers)
    for boundary in range(1, total):
        for chosen in (range(boundary), range(boundary, total)):
            trials.append(trial(len(trials), layers, map_of(layers, chosen)))
    return Study("spec", tuple(layers), tuple(trials))


def isolating_study(layers: Sequence[Layer]) -> Study:
    trials, total = anchors(layers), len(layers)
    for index in range(total):
        for chosen in ((index,), tuple(place for place in range(total) if place != index)):
            trials.append(trial(len(trials), layers, map_of(layers, chosen)))
    return Study("spec", tuple(layers), tuple(trials))


def on_screen(entry: Trial) -> tuple[Score, ...]:
    """The trial's scores on 32 images: farther from real images, and a tenth worse against FP32."""
    fid, to_fp32, psnr = entry.scores
    difference = 1.1 * fid.difference
    few = {"images": 32, "against": "lite0/raw/of 32"}
    return (
        replace(fid, value=16.0 + difference, difference=difference, **few),
        replace(to_fp32, value=1.1 * to_fp32.value, **few),
        replace(psnr, **few),
    )


def screened(entry: Trial) -> Trial:
    return replace(entry, outcome=Outcome.SCREENED, scores=on_screen(entry))


def screening_study(layers: Sequence[Layer]) -> Study:
    """As a search does it: uniform maps on all images, each layer alone in INT8 on those of a screen."""
    first = [replace(entry, screen_scores=on_screen(entry)) for entry in anchors(layers)]
    alone = [screened(trial(3 + place, layers, map_of(layers, [place]))) for place in range(len(layers))]
    return Study("spec", tuple(layers), (*first, *alone))


def ends_study(layers: Sequence[Layer], most: int = 5) -> Study:
    trials, total = anchors(layers), len(layers)
    for first in range(most):
        for last in range(most):
            if first or last:
                trials.append(trial(len(trials), layers, map_of(layers, range(first, total - last))))
    return Study("spec", tuple(layers), tuple(trials))


def pictures(study: Study, count: int = 3, size: int = 96) -> dict[int, np.ndarray]:
    """Smooth made-up faces with noise that grows with the damage: uint8 (count, 3, size, size), RGB."""
    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    base = []
    for k in range(count):
        face = np.exp(-(((x - 0.5) / 0.28) ** 2 + ((y - 0.5) / 0.36) ** 2) * 2)
        mouth = np.exp(-(((x - 0.5) / 0.12) ** 2 + ((y - 0.68) / (0.02 + 0.03 * k)) ** 2))
        base.append(
            np.stack(
                [
                    0.25 + 0.6 * face - 0.2 * mouth,
                    0.3 + 0.4 * face - 0.35 * mouth,
                    0.4 + 0.25 * face - 0.3 * mouth,
                ]
            )
        )
    clean = np.stack(base)
    found = {}
    for entry in study.scored():
        noise = np.random.default_rng(entry.number).normal(size=clean.shape)
        level = 0.0 if entry.number == 0 else 0.002 + 0.002 * damage_of(study.layers, entry.requested)
        found[entry.number] = np.clip((clean + level * noise) * 255, 0, 255).round().astype(np.uint8)
    return found

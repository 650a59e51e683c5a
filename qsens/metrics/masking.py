"""Warns where quantization noise makes FID better while it damages the pictures."""

from __future__ import annotations

from qsens.scoring.intervals import interval

MASKING_PSNR_DB = 45.0
"""Below this the change is worth looking at.

On a 4x super-resolution network scored at 2,000 images, a W6A6 map improved its distance to real images by
2.7 while it moved 25.7 away from the FP32 outputs (43.5 dB); a W8A8 map improved by 2.8 and moved 1.5
(53.2 dB).
"""


def masking_warning(
    fid_difference: float,
    fid_difference_se: float | None,
    damage: float | None,
    *,
    psnr_db: float | None = None,
) -> str | None:
    """A sentence for the report if FID improved on FP32 for the wrong reason, else `None`.

    `fid_difference`: FID minus FP32's FID on the same inputs. `fid_difference_se`: its paired standard error,
    `None` if unknown, then any improvement counts. `damage`: distance to the FP32 outputs in the same units
    (`fid-fp32`). `psnr_db`: PSNR against the FP32 outputs. It warns when the improvement is significant at
    95 % and the map moved further from FP32 than it came closer to the real images, or its PSNR is below
    `MASKING_PSNR_DB`.
    """
    _, upper = interval(fid_difference, fid_difference_se or 0.0)
    if upper >= 0.0:
        return None
    moved_further = damage is not None and damage > -fid_difference
    is_noisy = psnr_db is not None and psnr_db < MASKING_PSNR_DB
    if not (moved_further or is_noisy):
        return None
    evidence = []
    if damage is not None:
        evidence.append(f"{damage:.3g} away from the FP32 outputs")
    if psnr_db is not None:
        evidence.append(f"{psnr_db:.1f} dB PSNR against them")
    return (
        f"FID is {-fid_difference:.3g} better than FP32's while the pictures moved: {', '.join(evidence)}. "
        "Quantization noise can hide blur from FID; look at the samples before choosing this map"
    )

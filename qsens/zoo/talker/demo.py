"""The demo of the shipped talker: its spec, and its sets where an installation does not carry them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsens.zoo.corpus.writing import CorpusPlan, write_corpus


@dataclass(frozen=True)
class DemoSet:
    """A set of the demo: `frames` frames of the corpus that `seed` makes."""

    frames: int
    seed: int


# The sets of a checkout; an installed package makes the same ones with the corpus command's function.
SHIPPED = Path(__file__).parents[3] / "calibration_data" / "talker"
FRAMES_PER_CLIP = 10
SETS = {"calibration": DemoSet(160, 9001), "evaluation": DemoSet(400, 9002)}
METRICS = ("fid", "fid-fp32", "kid", "psnr", "ssim", "mouth-sync", "flicker")


class TalkerDemo:
    """The x0.25 Wav2Lip student without residual blocks on unseen speakers of the procedural corpus."""

    name = "talker"

    def spec_values(self, folder: Path) -> Mapping[str, Any]:
        """Values of the demo's spec; sets that are not shipped are made under `folder`.

        Raises:
            DataError, RunFolderError: if they cannot be made there.
        """
        calibration, evaluation = (demo_set(part, folder / "talker") for part in SETS)
        return {
            "model": "wav2lip",
            "calibration": str(calibration),
            "evaluation": str(evaluation),
            "reference": str(evaluation),
            "calibration_samples": SETS["calibration"].frames,
            "evaluation_samples": SETS["evaluation"].frames,
            "placement": "residual",
            # What a laptop runs: its INT8 codes reach to 255, which keeps more layers within the budget.
            "target": "openvino",
            "metrics": list(METRICS),
        }

    def notes(self) -> tuple[str, ...]:
        """Notes that a reader of the demo's numbers needs."""
        return (
            "Generator: Wav2Lip's architecture at a quarter of its width, without residual blocks "
            "(Kim et al. 2023), trained for qsens on its procedural corpus.",
            "Faces and voices: drawn and synthesised by `qsens zoo corpus`; none of them was trained on.",
        )


def demo_set(part: str, folder: Path) -> Path:
    """The folder of the set `calibration` or `evaluation`: the shipped one, else made under `folder`.

    Raises:
        DataError, RunFolderError: if it cannot be made.
    """
    if (SHIPPED / part / "manifest.toml").exists():
        return SHIPPED / part
    chosen = SETS[part]
    plan = CorpusPlan(seed=chosen.seed, frames_per_clip=FRAMES_PER_CLIP)
    write_corpus(folder / part, plan, chosen.frames, 1, _silent)
    return folder / part


def _silent(done: int, total: int, label: str) -> None:
    """A `Progress` for a step of a few seconds."""

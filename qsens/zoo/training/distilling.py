"""The distiller `omgd`: online multi-granularity distillation as Kim et al. 2023 use it on Wav2Lip."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qsens.core.interfaces import Progress
from qsens.zoo.training.kinds import train
from qsens.zoo.training.spec_reading import spec_from_values


def distill(spec: Mapping[str, Any], folder: Path, progress: Progress) -> Path:
    """Train the student that `spec` describes in `folder`, or go on; its weights file is returned.

    `spec` holds the keys of a spec file with `kind = "student"`, paths absolute or relative to the working
    folder; see `qsens.zoo.training.spec.StudentSpec`.

    Raises:
        SpecError: naming the key that is unknown, missing or wrong.
        LoadError: for weights that do not fit.
        RunFolderError: if the folder is in use or holds a run of another spec.
        KeyboardInterrupt: after saving, if the run was interrupted.
    """
    values = {"kind": "student", **spec, "out": folder.as_posix()}
    train(spec_from_values(values, "the distillation spec"), progress)
    return folder / "generator.safetensors"

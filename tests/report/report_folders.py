"""Run folders made up for the report tests, written by the real run folder."""

from pathlib import Path

import numpy as np
from report_studies import IMAGES, pictures

from qsens.core.spec import SweepSpec
from qsens.core.trial import Study
from qsens.run.evidence import Evidence, save_evidence
from qsens.run.folder import RunFolder, read_provenance, read_study
from qsens.run.paths import RunPaths
from qsens.selection.budget import Budget
from qsens.selection.choose import cheapest_within
from qsens.selection.precision_map_file import write_precision_map

SPEC = SweepSpec(checkpoint="student.onnx", reference="faces", seed=7, budget="5.0", strategy="boundary")


def write_run(path: Path, study: Study, *, budget: str | None = None, spec: SweepSpec = SPEC) -> Path:
    """A folder with the study's trials, evidence, pictures and, with a budget, the chosen map."""
    with RunFolder.open(path, spec) as folder:
        folder.write_layers(study.layers)
        folder.record_provenance({"model": "a1b2", "reference": "c3d4"})
        for trial in study.trials:
            folder.journal.append(trial)
        for trial in study.scored():
            save_evidence(folder.evidence, trial.number, Evidence(None, influences_of(trial.number)))
        for number, images in pictures(study, count=2, size=32).items():
            np.savez_compressed(folder.samples / f"trial-{number:04d}.npz", images=images)
    if budget is not None:
        study = read_study(path)
        selection = cheapest_within(study, budget=Budget.parse(budget))
        place = RunPaths(path).precision_map_path
        write_precision_map(place, selection, study, spec, read_provenance(path), {})
    return path


def influences_of(number: int) -> dict[str, np.ndarray]:
    """A shared part, which pairing removes, and a small part of the trial's own."""
    shared = np.random.default_rng(0).normal(size=IMAGES)
    own = np.random.default_rng(number + 1).normal(size=IMAGES)
    return {"fid[lite0]": 5.0 * shared + 0.2 * own}

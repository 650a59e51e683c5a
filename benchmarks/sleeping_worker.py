"""The worker of `scale.py`: everything that a worker does with files, and sleep instead of an engine."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from made_up import made_up_trial

from qsens.core.trial import Outcome, Request, Trial, requested_map
from qsens.device.audit import LayerAudit
from qsens.run.evidence import Evidence, ScoredGraphs, save_audit, save_evidence
from qsens.run.folder import RunPaths

SAMPLES, FEATURES = 8, 16


def sleep_and_keep(folder: str, number: int, request: Request, seconds: float, names: list[str]) -> Trial:
    """A made-up trial, whose small files of evidence are written as those of real ones are."""
    paths = RunPaths(Path(folder))
    graphs = ScoredGraphs(paths.evidence, paths.samples)
    requested = requested_map(request)
    graph = requested.digest
    graphs.forget(number)
    known = graphs.take(graph, Outcome.SCORED, number, requested)
    if known is not None:
        return known
    generator = np.random.default_rng(number)
    time.sleep(seconds * (0.5 + generator.random()))
    features = generator.random((SAMPLES, FEATURES), dtype=np.float32)
    save_evidence(paths.evidence, number, Evidence(features, {"psnr": features[:, 0].astype(np.float64)}))
    rows = [LayerAudit(name, name, None, str(requested[name]), str(requested[name]), None) for name in names]
    save_audit(paths.evidence, number, rows)
    trial = replace(made_up_trial(number, requested), graph=graph, duration_s=seconds)
    return graphs.keep(trial)

"""Finalists: the chosen map of a run with slow metrics is scored on all samples, until the choice stands."""

from collections.abc import Callable
from dataclasses import replace

from qsens.core.errors import BuildError, ScoreError
from qsens.core.interfaces import Progress
from qsens.core.maps import map_title
from qsens.core.precision import Precision
from qsens.core.trial import Study, Trial
from qsens.run.evaluate import Evaluator
from qsens.run.paths import RunPaths
from qsens.run.slow_metrics import keep_full_scores, next_finalist, read_full_scores, with_full_scores
from qsens.run.stages import Workload
from qsens.run.yardsticks import pictures_digest


def score_finalists(
    workload: Workload,
    folder: RunPaths,
    study: Study,
    choose: Callable[[Study], Trial | None],
    progress: Progress,
) -> Study:
    """The study, where the map that `choose` chooses has the scores of slow metrics on all samples.

    Raises:
        RunFolderError: if they cannot be written.
    """
    path = folder.full_scores_path
    study = replace(study, trials=with_full_scores(study.trials, path))
    if not any(metric.is_slow for metric in workload.metrics):
        return study
    fp32 = study.anchors[Precision.FP32]
    kept = dict(read_full_scores(path, pictures_digest(fp32)))
    evaluator = Evaluator(workload, evidence=folder.evidence, samples=folder.samples, fp32=fp32)
    while (trial := next_finalist(study, choose)) is not None:
        done = len(study.trials)
        progress(done, done + 1, f"all samples: {map_title(trial.requested, study.layers)}")
        try:
            kept[str(trial.graph)] = evaluator.slow_scores(trial.requested)
        except (BuildError, ScoreError):
            return study  # what it scored on a few samples stays
        keep_full_scores(path, pictures_digest(fp32), kept)
        study = replace(study, trials=with_full_scores(study.trials, path))
    return study

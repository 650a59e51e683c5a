"""The calibration and the evaluation set that a spec names, and the input shapes they imply."""

from collections.abc import Sequence
from pathlib import Path

from qsens.calibration.rules import ANY_IMAGE
from qsens.calibration.sets import open_sample_set
from qsens.calibration.splits import split_sample_set, subset
from qsens.core.errors import DataError, SpecError
from qsens.core.interfaces import InputSpec, SampleSet
from qsens.core.spec import SweepSpec

# Of a set too small for both counts, one sample in this many goes to calibration.
CALIBRATION_PART = 4

# One to calibrate on, and two to score: one alone has no spread.
FEWEST = 3


def open_sweep_sets(spec: SweepSpec, inputs: Sequence[InputSpec]) -> tuple[SampleSet, SampleSet]:
    """The calibration and the evaluation set; without the latter, one set is split in two.

    The sample counts of the spec are upper limits for sets of files.

    Raises:
        SpecError, DataError, PluginError: as `open_sample_set` and `split_sample_set`.
    """
    if spec.calibration is None:
        raise SpecError(
            "no calibration set", "give --calibration FOLDER (images or .npz files) or --calibration noise"
        )
    if spec.evaluation is None:
        whole = _open_set(spec.calibration, inputs, spec, spec.calibration_samples + spec.evaluation_samples)
        return _split_set(whole, spec)
    calibration = _open_set(spec.calibration, inputs, spec, spec.calibration_samples)
    evaluation = _open_set(spec.evaluation, inputs, spec, spec.evaluation_samples)
    return (
        _at_most(calibration, spec.calibration_samples, spec.seed),
        _at_most(evaluation, spec.evaluation_samples, spec.seed),
    )


def shapes_of_sample(samples: SampleSet, inputs: Sequence[InputSpec]) -> dict[str, tuple[int, ...]]:
    """Input shapes, batch axis included, as the first sample has them. Raises `DataError` for a bad file."""
    sample = samples.sample(0)
    return {
        entry.name: (1,) * entry.is_batched + tuple(sample[entry.name].shape)
        for entry in inputs
        if entry.name in sample
    }


def _open_set(source: str, inputs: Sequence[InputSpec], spec: SweepSpec, limit: int) -> SampleSet:
    """All of a folder; `limit` samples of a source that may have no end."""
    is_endless = source == "noise" or (":" in source and not Path(source).exists())
    rules = {ANY_IMAGE: spec.image_rule, **dict(spec.inputs)}
    return open_sample_set(
        source,
        inputs=inputs,
        rules=rules,
        seed=spec.seed,
        count=limit if is_endless else None,
        largest_megapixels=spec.largest_picture_megapixels,
    )


def _at_most(samples: SampleSet, limit: int, seed: int) -> SampleSet:
    return subset(samples, min(limit, len(samples)), seed)


def _split_set(whole: SampleSet, spec: SweepSpec) -> tuple[SampleSet, SampleSet]:
    """Calibration and evaluation samples of one set, without a common sample or clip."""
    for_calibration, for_evaluation = spec.calibration_samples, spec.evaluation_samples
    if len(whole) < FEWEST:
        raise DataError(
            f"{whole.name!r} holds {len(whole)} samples: too few to calibrate on some and score others",
            f"give at least {FEWEST} (hundreds, for scores that mean something), or a set of its own with "
            "--evaluation",
        )
    if len(whole) < for_calibration + for_evaluation:
        for_calibration = min(for_calibration, max(1, len(whole) // CALIBRATION_PART))
        # Whole clips go to one side, so that the other may end up with fewer samples than were counted on.
        clips = [] if whole.clusters is None else list(whole.clusters)
        largest_clip = max((clips.count(clip) for clip in set(clips)), default=1)
        for_evaluation = min(for_evaluation, len(whole) - for_calibration - (largest_clip - 1))
    return split_sample_set(whole, for_calibration, max(for_evaluation, 1), spec.seed)

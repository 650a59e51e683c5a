"""Opens sample sets (folders of images or arrays, seeded noise, plug-ins), and the two that a spec names."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from qsens.calibration.feeds import ArrayFeed, Feed, ImageFeed, check_array_file
from qsens.calibration.files import SetFiles, list_nested_files, list_set_files
from qsens.calibration.manifest import Manifest, check_manifest, read_manifest
from qsens.calibration.noise import ConstantFeed, NoiseFeed
from qsens.calibration.plugin_set import PluginSampleSet, open_plugin_set
from qsens.calibration.rules import ANY_IMAGE, rules_for_arrays, rules_for_images, rules_for_noise
from qsens.calibration.splits import split_sample_set, subset, subset_of_clips
from qsens.core.errors import DataError, SpecError
from qsens.core.interfaces import InputRule, InputSpec, SampleSet
from qsens.core.plugins import create
from qsens.core.spec import LARGEST_PICTURE_MEGAPIXELS, SweepSpec

if TYPE_CHECKING:
    from qsens.core.interfaces import Sample


__all__ = ["FeedSampleSet", "open_sample_set", "split_sample_set", "subset"]
NOISE = "noise"
_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
# Of a set too small for both counts, one sample in this many goes to calibration.
CALIBRATION_PART = 4
# One to calibrate on, and two to score: one alone has no spread.
FEWEST = 3


@dataclass(eq=False)
class FeedSampleSet(SampleSet):
    """A sample set with one feed for each graph input. Nothing is kept of a sample once it is returned."""

    name: str
    feeds: Mapping[str, Feed]
    count: int
    clusters: tuple[str, ...] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.count

    @cached_property
    def digest(self) -> str:
        """sha256 over the files' bytes in order, the rules, the seed and the clips."""
        feeds = {name: feed.identity() for name, feed in sorted(self.feeds.items())}
        key = json.dumps({"count": self.count, "feeds": feeds, "clusters": self.clusters}, sort_keys=True)
        return hashlib.sha256(key.encode()).hexdigest()

    def sample(self, index: int) -> Sample:
        """Arrays of sample `index` by graph input name. Raises `DataError` for a bad file."""
        if not 0 <= index < self.count:
            raise IndexError(f"sample {index} of a set of {self.count}")
        return {name: feed.read(index) for name, feed in self.feeds.items()}

    @property
    def value_ranges(self) -> Mapping[str, tuple[float, float]]:
        """The inputs as the rules have them, whatever the files hold."""
        ranges = {name: feed.value_range for name, feed in self.feeds.items()}
        return {name: ends for name, ends in ranges.items() if ends is not None}

    def annotation(self, index: int) -> Mapping[str, str]:
        """The `file` that the sample is read from, where it is in one."""
        return {"file": self.files[index]} if self.files else {}

    def describe(self) -> Mapping[str, str]:
        """Name, source, count, clips, licence and origin where known, and what each feed does."""
        described = {"name": self.name, **self.facts, "count": str(self.count)}
        if self.clusters is not None:
            described["clips"] = str(len(set(self.clusters)))
        for feed in self.feeds.values():
            described.update(feed.describe())
        return described


def open_sample_set(
    source: str,
    *,
    inputs: Sequence[InputSpec],
    rules: Mapping[str, InputRule],
    seed: int,
    count: int | None = None,
    largest_megapixels: int = LARGEST_PICTURE_MEGAPIXELS,
) -> SampleSet:
    """Open a folder of images, of `.npz` files or with an opener, `noise`, or `package.module:factory`.

    `rules` are by graph input name; `*` names the image input that has no rule of its own. A manifest in
    the folder is checked, and supplies what the rules leave open. `count` takes that many samples, chosen
    by `seed`; `None` takes all. Pictures beyond `largest_megapixels` are refused. Every file's header is
    checked here, its content when it is read.

    Raises:
        DataError: for files that are missing, damaged, of wrong size or shape, or too few.
        SpecError: for rules that do not fit the graph or the source.
        PluginError: for a plug-in that does not keep its contract.
    """
    if count is not None and count < 1:
        raise SpecError(f"a set of {count} samples", "ask for at least 1")
    if source == NOISE:
        return _open_noise(inputs, rules, seed, count)
    folder = Path(source).expanduser()
    if _FACTORY.fullmatch(source) and not folder.exists():
        opened = open_plugin_set(source, inputs, seed, count)
    else:
        opened = _open_folder(folder, inputs, rules, seed, largest_megapixels)
    return opened if count is None else subset(opened, count, seed)


def _open_noise(
    inputs: Sequence[InputSpec], rules: Mapping[str, InputRule], seed: int, count: int | None
) -> SampleSet:
    if count is None:
        raise SpecError("seeded noise has no end", "say how many samples to draw")
    completed = rules_for_noise(inputs, rules)
    feeds = {spec.name: _unfiled_feed(spec, completed[spec.name], seed) for spec in inputs}
    return FeedSampleSet(NOISE, feeds, count, facts={"source": "seeded noise"})


def _open_folder(
    folder: Path,
    inputs: Sequence[InputSpec],
    rules: Mapping[str, InputRule],
    seed: int,
    largest_megapixels: int,
) -> SampleSet:
    manifest = read_manifest(folder)
    if manifest is not None and manifest.opener is not None:
        return _open_with_plugin(folder, inputs, seed, manifest)
    files = list_set_files(folder)
    if manifest is not None:
        check_manifest(files, manifest)
    kind = "images" if files.are_images else ".npz files"
    facts = {"source": f"folder of {kind} {folder.name!r}"}
    if manifest is not None:
        facts.update(licence=manifest.licence, origin=manifest.origin)
    completed = (
        rules_for_images(inputs, rules, manifest) if files.are_images else rules_for_arrays(inputs, rules)
    )
    feeds = {
        spec.name: ImageFeed(spec, completed[spec.name], files, largest_megapixels)
        if completed[spec.name].source == "image"
        else _other_feed(spec, completed[spec.name], files, seed)
        for spec in inputs
    }
    return FeedSampleSet(
        manifest.name if manifest is not None else folder.absolute().name,
        feeds,
        len(files.paths),
        _clusters(files, [spec for spec in inputs if completed[spec.name].source == "array"], manifest),
        facts,
        tuple(path.name for path in files.paths),
    )


def _open_with_plugin(folder: Path, inputs: Sequence[InputSpec], seed: int, manifest: Manifest) -> SampleSet:
    check_manifest(list_nested_files(folder), manifest)
    opener = str(manifest.opener)
    asked = {"inputs": tuple(inputs), "seed": seed, "count": None}
    opened = create("sets", opener, {**manifest.opener_options, **asked}, folder)
    facts = {"licence": manifest.licence, "origin": manifest.origin}
    return PluginSampleSet(opener, opened, inputs, name=manifest.name, facts=facts)


def _other_feed(spec: InputSpec, rule: InputRule, files: SetFiles, seed: int) -> Feed:
    if rule.source == "array":
        return ArrayFeed(spec, files)
    return _unfiled_feed(spec, rule, seed)


def _unfiled_feed(spec: InputSpec, rule: InputRule, seed: int) -> Feed:
    return ConstantFeed(spec, rule) if rule.source == "constant" else NoiseFeed(spec, rule, seed)


def _clusters(
    files: SetFiles, arrays: Sequence[InputSpec], manifest: Manifest | None
) -> tuple[str, ...] | None:
    """Clips stated in the `.npz` files, whose headers this checks, else in the manifest."""
    stated = [] if files.are_images else [check_array_file(path, arrays) for path in files.paths]
    clips = [clip for clip in stated if clip is not None]
    if not clips:
        return _clips_in_order(files, manifest)
    if len(clips) < len(stated):
        without = files.paths[stated.index(None)]
        raise DataError(f"{without} states no clip, other files do", "state a clip in all files or in none")
    return tuple(clips)


def _clips_in_order(files: SetFiles, manifest: Manifest | None) -> tuple[str, ...] | None:
    if manifest is None or manifest.clips is None:
        return None
    clip_of = {file.name: clip for file, clip in zip(manifest.files, manifest.clips, strict=True)}
    return tuple(clip_of[path.name] for path in files.paths)


def open_sweep_sets(
    spec: SweepSpec, inputs: Sequence[InputSpec], *, whole_clips: bool = False
) -> tuple[SampleSet, SampleSet]:
    """The calibration and the evaluation set; without the latter, one set is split in two.

    With `whole_clips` clips are chosen, of which only the last is cut short, and not single frames. The
    sample counts of the spec are upper limits for sets of files.

    Raises:
        SpecError, DataError, PluginError: as `open_sample_set` and `split_sample_set`.
    """
    if spec.calibration is None:
        raise SpecError(
            "no calibration set", "give --calibration FOLDER (images or .npz files) or --calibration noise"
        )
    if spec.evaluation is None:
        limit = spec.calibration_samples + spec.evaluation_samples
        return _split_set(_open_set(spec.calibration, inputs, spec, limit, whole_clips=whole_clips), spec)
    return (
        _at_most(spec.calibration, inputs, spec, spec.calibration_samples, whole_clips=whole_clips),
        _at_most(spec.evaluation, inputs, spec, spec.evaluation_samples, whole_clips=whole_clips),
    )


def shapes_of_sample(samples: SampleSet, inputs: Sequence[InputSpec]) -> dict[str, tuple[int, ...]]:
    """Input shapes, batch axis included, as the first sample has them. Raises `DataError` for a bad file."""
    sample = samples.sample(0)
    return {
        entry.name: (1,) * entry.is_batched + tuple(sample[entry.name].shape)
        for entry in inputs
        if entry.name in sample
    }


def _open_set(
    source: str, inputs: Sequence[InputSpec], spec: SweepSpec, limit: int, *, whole_clips: bool
) -> SampleSet:
    """All of a folder; `limit` samples of a source that may have no end."""
    is_code = ":" in source and not Path(source).exists()
    if is_code and whole_clips:
        return open_plugin_set(source, inputs, spec.seed, limit)
    is_endless = source == "noise" or is_code
    rules = {ANY_IMAGE: spec.image_rule, **dict(spec.inputs)}
    return open_sample_set(
        source,
        inputs=inputs,
        rules=rules,
        seed=spec.seed,
        count=limit if is_endless else None,
        largest_megapixels=spec.largest_picture_megapixels,
    )


def _at_most(
    source: str, inputs: Sequence[InputSpec], spec: SweepSpec, limit: int, *, whole_clips: bool
) -> SampleSet:
    samples = _open_set(source, inputs, spec, limit, whole_clips=whole_clips)
    choose = subset_of_clips if whole_clips and samples.clusters is not None else subset
    return choose(samples, min(limit, len(samples)), spec.seed)


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

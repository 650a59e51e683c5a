"""Playing a loop: which samples are played together, what is checked of it, and the calls that it makes."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from inspect import isfunction
from itertools import groupby
from typing import Any

import numpy as np

from qsens.calibration.splits import SampleView
from qsens.core.errors import DataError, PluginError, ScoreError, SpecError
from qsens.core.interfaces import InputSpec, Loop, SampleSet
from qsens.core.own_code import LENT, is_reference, lent_object, own_plugin, use_own_code
from qsens.core.plugins import create
from qsens.device.errors import DeviceError
from qsens.device.loops import Network, Once, Port

Array = np.ndarray[Any, np.dtype[Any]]
Feed = Mapping[str, Array]
Call = Callable[[Feed], Mapping[str, Array]]
ONCE: Loop = Once()
# Of one play; far more than any sampler or clip has.
MOST_CALLS = 100_000


def open_loop(table: Mapping[str, Any], inputs: Sequence[InputSpec], outputs: Sequence[str]) -> Loop:
    """The loop that the table `[loop]` of a spec names; one call a picture where it is empty.

    Raises:
        SpecError: for an unknown loop or option, or names that the network does not have.
    """
    options = dict(table)
    name = options.pop("name", None)
    if name is None:
        if options:
            raise SpecError(
                f"{', '.join(options)}: options of a loop that is not named",
                "name it with --loop NAME: recurrent or sampler",
            )
        return ONCE
    loop = _created(name, options, _network(inputs, outputs))
    names = [spec.name for spec in inputs]
    unknown = next((one for one in (*loop.fed, *loop.started) if one not in names), None)
    if unknown is not None:
        raise SpecError(
            f"the loop {name!r} feeds the input {unknown!r}, which the network does not have",
            f"its inputs are {', '.join(names)}",
        )
    return loop


def _created(name: str, options: Mapping[str, Any], network: Network) -> Loop:
    function = _own_function(name)
    if function is not None:
        try:
            return FunctionLoop(function, **options)
        except TypeError as error:
            hint = "a function has fed, started, plays_clips and length"
            raise SpecError(f"the options of the loop {name!r}: {error}", hint) from error
    try:
        loop: Loop = create("loops", name, options, offered={"network": network})
    except DeviceError as error:
        raise SpecError(error.message, error.hint) from error
    return loop


def _own_function(name: str) -> Callable[..., Any] | None:
    """The function that a name stands for; `None` where it is a plug-in, a class or an object."""
    if name.startswith(LENT):
        found = lent_object(name)
    else:
        found = own_plugin("loops", name) if is_reference(name) else None
    return found if isfunction(found) else None


class FunctionLoop(Loop):
    """A loop that is a function of a user's own, `(call, feeds)` to the outputs of each feed."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        fed: Sequence[str] = (),
        started: Sequence[str] = (),
        plays_clips: bool = False,
        length: int = 0,
    ) -> None:
        self._function = function
        self.fed, self.started = tuple(fed), tuple(started)
        self.plays_clips, self.length = plays_clips, length

    def play(self, call: Call, feeds: Sequence[Feed]) -> Sequence[Mapping[str, Array]]:
        """Whatever the function makes of them."""
        made: Sequence[Mapping[str, Array]] = self._function(call, feeds)
        return made


def open_own_loop(table: Mapping[str, Any], inputs: Sequence[InputSpec], outputs: Sequence[str]) -> Loop:
    """`open_loop` where a person asked for what the spec names: code of theirs may be run."""
    use_own_code("loops", str(table.get("name", "")))
    return open_loop(table, inputs, outputs)


def _network(inputs: Sequence[InputSpec], outputs: Sequence[str]) -> Network:
    ports = (Port(spec.name, spec.dtype, spec.shape, spec.is_batched, spec.sides) for spec in inputs)
    return Network(tuple(ports), tuple(outputs))


def sample_inputs(inputs: Sequence[InputSpec], loop: Loop, ruled: Sequence[str]) -> tuple[InputSpec, ...]:
    """The inputs that samples hold: all but those that the loop makes itself; `ruled` have a rule."""
    held = {*loop.started, *ruled}
    return tuple(spec for spec in inputs if spec.name not in loop.fed or spec.name in held)


def spans(samples: SampleSet, batch_size: int, loop: Loop) -> list[range]:
    """Places of the samples that are played together, in order: clips, or `batch_size` samples each.

    Raises:
        DataError: for a loop that plays clips and samples of none.
    """
    if not loop.plays_clips:
        return _parts(range(len(samples)), batch_size)
    clips = samples.clusters
    if clips is None:
        raise DataError(
            f"{samples.name!r} states no clips, and the loop hands its states on from frame to frame of one",
            "name the clip of each frame: as 'clip' in each .npz, in a manifest (qsens calibration add "
            "FOLDER --clip-pattern REGEX), or as the clusters of a set of your own",
        )
    found = []
    for _, places in groupby(range(len(samples)), _clip_keys(samples, clips).__getitem__):
        frames = list(places)
        found += _parts(range(frames[0], frames[-1] + 1), loop.length or len(frames))
    return found


def _clip_keys(samples: SampleSet, clips: Sequence[str]) -> list[tuple[str, int]]:
    """A value for each sample that changes where a clip ends, or a frame of it is missing."""
    numbers = [samples.annotation(place).get("frame", place) for place in range(len(samples))]
    return [
        (clip, int(number) - place) for place, (clip, number) in enumerate(zip(clips, numbers, strict=True))
    ]


class NumberedFrames(SampleView):
    """The samples of a set whose clips are played: each states its clip and its place in that."""

    def __init__(self, base: SampleSet) -> None:
        super().__init__(base, range(len(base)), "")
        self._whole = base
        self._numbers = numbers_in_clips(base.clusters or ())

    @property
    def digest(self) -> str:
        """That of the set itself."""
        return self._whole.digest

    def describe(self) -> Mapping[str, str]:
        """That of the set itself."""
        return self._whole.describe()

    def annotation(self, index: int) -> Mapping[str, Any]:
        """Clip and frame, so that scores of videos can be had, beside what the set says itself."""
        clips = self.clusters or ()
        return {"clip": clips[index], "frame": self._numbers[index], **self._whole.annotation(index)}


def numbers_in_clips(clips: Sequence[str]) -> list[int]:
    """The place of each sample among those of its clip.

    >>> numbers_in_clips(["a", "a", "b", "a"])
    [0, 1, 0, 2]
    """
    seen: Counter[str] = Counter()
    numbers = []
    for clip in clips:
        numbers.append(seen[clip])
        seen[clip] += 1
    return numbers


def _parts(places: range, size: int) -> list[range]:
    return [places[start : start + size] for start in range(0, len(places), size)]


def played(loop: Loop, call: Call, feeds: Sequence[Feed]) -> list[Mapping[str, Array]]:
    """The outputs that a loop makes of each feed.

    Raises:
        ScoreError: for states that do not fit, grow or are no longer finite, or a loop without an end.
        PluginError: for a loop that does not return a mapping of arrays for each feed.
    """
    counted = _Counted(call)
    try:
        made = loop.play(counted, feeds)
    except DeviceError as error:
        raise ScoreError(error.message, error.hint) from error
    title = type(loop).__name__
    if not isinstance(made, Sequence) or len(made) != len(feeds):
        found = f"{len(made)} results" if isinstance(made, Sequence) else type(made).__name__
        raise PluginError(
            f"the loop {title} returned {found} for {len(feeds)} feeds",
            "return a list with the outputs of each, a mapping of arrays by name",
        )
    for outputs in made:
        if not isinstance(outputs, Mapping) or not outputs:
            raise PluginError(
                f"the loop {title} returned no picture, but {outputs!r}",
                "return the outputs of each feed as a mapping of arrays by name",
            )
    return list(made)


class _Counted:
    """A call that ends a loop which does not end itself."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._count = 0

    def __call__(self, feed: Feed) -> Mapping[str, Array]:
        self._count += 1
        if self._count > MOST_CALLS:
            raise ScoreError(
                f"the loop called the network {MOST_CALLS:,} times without coming to an end",
                "give it a number of steps",
            )
        return self._call(feed)


class _FirstCallError(BaseException):
    """Carries the first feed out of a loop, past whatever it catches."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed


def first_call(loop: Loop, sample: Feed, inputs: Sequence[InputSpec]) -> Feed:
    """All inputs of the first call that a loop makes of a sample; neither has batch axes.

    Raises:
        ScoreError: as `played`.
        PluginError: for a loop that makes no call.
    """

    def stop(feed: Feed) -> Mapping[str, Array]:
        raise _FirstCallError(feed)

    try:
        played(loop, stop, [with_batch(sample, inputs)])
    except _FirstCallError as first:
        return without_batch(first.feed, inputs)
    raise PluginError(f"the loop {type(loop).__name__} did not call the network", "it is to use `call`")


def with_batch(sample: Feed, inputs: Sequence[InputSpec]) -> Feed:
    """The sample as a feed of one, with the batch axes of the inputs that have one."""
    batched = {spec.name for spec in inputs if spec.is_batched}
    return {name: value[np.newaxis] if name in batched else value for name, value in sample.items()}


def without_batch(feed: Feed, inputs: Sequence[InputSpec]) -> Feed:
    """A feed of one sample without batch axes, complete and of the inputs' types.

    Raises:
        ScoreError: for an input that it lacks, or has in another type.
    """
    found = {}
    for spec in inputs:
        if spec.name not in feed:
            raise ScoreError(
                f"the loop called the network without its input {spec.name!r}",
                "say with `fed` which inputs the loop makes, and hand on all others",
            )
        value = np.asarray(feed[spec.name])
        if value.dtype != spec.dtype or value.ndim != len(spec.shape) + spec.is_batched:
            raise ScoreError(
                f"the loop fed {spec.name!r} with {value.dtype} of {value.ndim} axes, the network takes "
                f"{spec.dtype} of {len(spec.shape) + spec.is_batched}",
                "hand on what samples hold, and make other inputs in the type that the network takes",
            )
        found[spec.name] = value[0] if spec.is_batched else value
    return found

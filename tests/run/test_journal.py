"""The journal: what is read back, torn tails, corruption, a full disk."""

import errno
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qsens.core.errors import RunFolderError
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Score, Trial
from qsens.run.journal import Journal, read_journal
from qsens.testing import example_layers, example_trial

LAYERS = example_layers(4)
NAMES = [layer.name for layer in LAYERS]


def trial(number, precision=Precision.INT8):
    return example_trial(number, PrecisionMap(Precision.FP16, ((NAMES[number % 4], precision),)), LAYERS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


def write_trials(path, count):
    with Journal(path, "spec") as journal:
        for number in range(count):
            journal.append(trial(number))


def test_trials_are_read_back_in_order(path):
    write_trials(path, 3)
    content = read_journal(path)
    assert content.spec_digest == "spec"
    assert content.trials == tuple(trial(number) for number in range(3))
    assert content.good_bytes == path.stat().st_size


def test_each_trial_is_one_line_and_on_disk_before_append_returns(path):
    with Journal(path, "spec") as journal:
        journal.append(trial(0))
        assert read_journal(path).trials == (trial(0),)
    assert len(path.read_bytes().splitlines()) == 2


def test_a_reopened_journal_goes_on(path):
    write_trials(path, 2)
    with Journal(path, "spec") as journal:
        assert len(journal.trials) == 2
        journal.append(trial(2))
    assert [entry.number for entry in read_journal(path).trials] == [0, 1, 2]


def test_another_spec_is_refused(path):
    write_trials(path, 1)
    with pytest.raises(RunFolderError, match="another spec"):
        Journal(path, "other")


def test_a_last_line_torn_at_any_byte_loses_only_its_trial(path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)  # hundreds of waits for the disk prove nothing more
    write_trials(path, 2)
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        assert read_journal(path).trials == (trial(0),)
        with Journal(path, "spec") as journal:
            assert journal.trials == (trial(0),)
            assert path.stat().st_size == start
            journal.append(trial(1))
        assert path.read_bytes() == whole


def test_a_header_torn_at_any_byte_is_written_again(path):
    write_trials(path, 0)
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        Journal(path, "spec").close()
        assert path.read_bytes() == whole


def test_a_tail_of_zeros_as_after_a_power_cut_is_cut(path):
    write_trials(path, 1)
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 512)
    with Journal(path, "spec") as journal:
        assert journal.trials == (trial(0),)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("line", [1, 2, 3])
@pytest.mark.parametrize("damage", [b"{half", b"[]", b'{"number": 1}'])
def test_a_corrupt_line_in_the_middle_is_named(path, line, damage):
    write_trials(path, 3)
    lines = path.read_bytes().split(b"\n")
    lines[line - 1] = damage
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(RunFolderError, match=f"line {line} of .* is corrupt"):
        Journal(path, "spec")
    assert path.read_bytes() == b"\n".join(lines), "a refused journal must stay as it was"


def test_a_full_disk_keeps_every_earlier_trial(path, monkeypatch):
    with Journal(path, "spec") as journal:
        journal.append(trial(0))
        good = path.read_bytes()
        real_write = os.pwrite

        def half_then_full(file, content, offset):
            if len(content) < 20:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real_write(file, content[:-10], offset)

        monkeypatch.setattr(os, "pwrite", half_then_full)
        with pytest.raises(RunFolderError, match="no space left") as caught:
            journal.append(trial(1))
        assert "nothing computed before is lost" in caught.value.hint
        assert path.read_bytes() == good
        monkeypatch.undo()
        journal.append(trial(1))
    assert read_journal(path).trials == (trial(0), trial(1))


def test_a_real_file_size_limit_is_a_clear_error(path):
    code = f"""
import resource, sys
from pathlib import Path
from qsens.core.errors import RunFolderError
from qsens.run.journal import Journal
from qsens.core.precision import Precision, PrecisionMap
from qsens.testing import example_layers, example_trial
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
layers = example_layers(4)
with Journal(Path({str(path)!r}), "spec") as journal:
    try:
        for number in range(100):
            journal.append(example_trial(number, PrecisionMap(Precision.INT8), layers))
    except RunFolderError as error:
        print(len(journal.trials), error.message)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    written = int(result.stdout.split()[0])
    assert "no space left" in result.stdout
    assert 0 < written < 100
    assert len(read_journal(path).trials) == written


def test_a_journal_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(RunFolderError, match="cannot write"):
        Journal(tmp_path / "absent" / "journal.jsonl", "spec")


SCORES = st.builds(
    Score,
    metric=st.sampled_from(["fid[lite0]", "psnr"]),
    value=st.floats(allow_nan=False),
    images=st.integers(1, 10**6),
    against=st.text(max_size=8),
    lower_is_better=st.booleans(),
    standard_error=st.none() | st.floats(0, 10),
)
MAPS = st.builds(
    lambda default, overrides: PrecisionMap(default, tuple(overrides.items())),
    st.sampled_from(Precision),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(Precision)),
)
TRIALS = st.builds(
    Trial,
    number=st.integers(0, 99),
    requested=MAPS,
    applied=st.none() | MAPS,
    outcome=st.sampled_from(Outcome),
    scores=st.lists(SCORES, max_size=2).map(tuple),
    latency_ms=st.none() | st.floats(0, 1e6),
    size_bytes=st.none() | st.integers(0, 10**12),
    duration_s=st.floats(0, 1e6),
    fp16_overflows=st.dictionaries(st.sampled_from(NAMES), st.integers(1, 99)).map(
        lambda found: tuple(found.items())
    ),
    error=st.none() | st.text(max_size=20),
)


@settings(deadline=None, max_examples=50)  # waits for the disk
@given(trials=st.lists(TRIALS, min_size=1, max_size=4), data=st.data())
def test_any_prefix_of_a_journal_holds_its_whole_trials(tmp_path_factory, trials, data):
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    with Journal(path, "spec") as journal:
        for entry in trials:
            journal.append(entry)
    whole = path.read_bytes()
    assert read_journal(path).trials == tuple(trials)
    end = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:end])
    complete = max(0, whole[:end].count(b"\n") - 1)
    with Journal(path, "spec") as journal:
        assert journal.trials == tuple(trials[:complete])
        for entry in trials[complete:]:
            journal.append(entry)
    assert path.read_bytes() == whole
    assert all(json.loads(line) for line in whole.splitlines())


def changed(**changes):
    """The line of a good trial with other values."""
    return json.dumps({**trial(1).to_json(), **changes}).encode()


SCORE = trial(1).to_json()["scores"][0]
MAP = {"default": "int8", "overrides": {}}
BAD_VALUES = {
    "number": [None, "1", 1.0, True, -1, 2**63, [1]],
    "requested": [None, [], "int8", {}, {**MAP, "default": 8}, {**MAP, "overrides": ["a"]}],
    "applied": [0, [MAP], {"default": "int4"}, {**MAP, "overrides": {"a": None}}],
    "outcome": [None, "won", ["scored"], {}],
    "scores": [None, {}, [None], [[]], "fid", 3],
    "latency_ms": ["2", [], False, 10**30],
    "size_bytes": ["2", 1.5, -2],
    "duration_s": [None, "1", {}],
    "fp16_overflows": [None, [], {"a": "2"}, {"a": 2.5}],
    "error": [1, ["failed"]],
    "mismatches": [None, "layer", [1]],
    "screen_scores": [None, [{}]],
    "graph": [1, {}],
    "surprise": [1],
}
BAD_SCORES = {
    "metric": [None, 1],
    "value": [None, "1", True, [], 10**30],
    "images": [None, 1.5, "4", -1, 0],
    "against": [None, {}],
    "lower_is_better": [None, 1, "yes"],
    "standard_error": ["0", [], -0.5],
    "difference_standard_error": [-1],
    "surprise": [1],
}


@pytest.mark.parametrize("line", [
    *(changed(**{key: value}) for key, values in BAD_VALUES.items() for value in values),
    *(changed(scores=[{**SCORE, key: value}]) for key, values in BAD_SCORES.items() for value in values),
    changed(error="DEEP").replace(b'"DEEP"', b"[" * 100_000 + b"]" * 100_000),
    changed(error="LONG").replace(b'"LONG"', b"9" * 5000),
    changed(error="BYTES").replace(b"BYTES", b"\xff\xfe"),
    b"null",
    b"7",
])  # fmt: skip
def test_a_value_of_another_kind_is_refused_with_its_line(path, line):
    write_trials(path, 3)
    lines = path.read_bytes().split(b"\n")
    lines[2] = line
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(RunFolderError, match=r"line 3 of .* is corrupt: it is no") as caught:
        read_journal(path)
    assert len(caught.value.message) < 500


def test_whole_numbers_may_stand_for_floats(path):
    write_trials(path, 2)
    lines = path.read_bytes().split(b"\n")
    lines[2] = changed(duration_s=3, latency_ms=2, scores=[{**SCORE, "value": 7, "difference": -1}])
    path.write_bytes(b"\n".join(lines))
    read = read_journal(path).trials[1]
    assert (read.duration_s, read.latency_ms, read.scores[0].value, read.scores[0].difference) == (
        3,
        2,
        7,
        -1,
    )


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_refused(path, kind):
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    with pytest.raises(RunFolderError, match="cannot read"):
        read_journal(path)


def test_maps_of_a_journal_share_what_is_equal(path):
    maps = [PrecisionMap(Precision.FP16, tuple((name, Precision.INT8) for name in NAMES[:2]))] * 2
    with Journal(path, "spec") as journal:
        for number, one in enumerate(maps):
            journal.append(example_trial(number, one, LAYERS))
    first, second = read_journal(path).trials
    assert first.applied is first.requested, "100,000 trials would take gigabytes"
    assert all(a is b for a, b in zip(first.requested.overrides, second.requested.overrides, strict=True))

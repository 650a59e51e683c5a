"""Clips of files by a pattern that a user gives."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence

from qsens.core.errors import SpecError

# Thousands of names take milliseconds.
LONGEST_S = 20.0
# Python's matcher takes longer than anybody lives for some patterns, and nothing can interrupt it; a process
# can be ended. Other matchers are linear, but read other patterns than the ones that people have.
_SEARCH = """
import json, re, sys
pattern, names = json.load(sys.stdin)
found = (re.search(pattern, name) for name in names)
json.dump([match and match[1] for match in found], sys.stdout)
"""


def clips_by_pattern(pattern: str, names: Sequence[str]) -> Mapping[str, str]:
    """The clip of each file name: the first group of `pattern`, which is searched in the name.

    Raises:
        SpecError: for a pattern that is none, has no group, takes too long, or does not fit a name.
    """
    _check_pattern(pattern)
    command = [sys.executable, "-I", "-c", _SEARCH]
    try:
        done = subprocess.run(
            command, input=json.dumps([pattern, names]), capture_output=True, text=True, timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired as error:
        raise SpecError(
            f"clip pattern {pattern!r} takes more than {LONGEST_S:g} s for {len(names)} names",
            "leave out repeats of repeats, such as '(a+)+'",
        ) from error
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
        raise SpecError(f"clip pattern {pattern!r}: {reason[0]}", "use a simpler pattern")
    clips = dict(zip(names, json.loads(done.stdout), strict=True))
    for name, clip in clips.items():
        if not clip:
            raise SpecError(
                f"clip pattern {pattern!r} finds no clip in {name!r}", "use a pattern that fits every name"
            )
    return clips


def _check_pattern(pattern: str) -> None:
    try:
        groups = re.compile(pattern).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise SpecError(f"clip pattern {pattern!r}: {error}", _EXAMPLE) from error
    if not groups:
        raise SpecError(f"clip pattern {pattern!r}: no such group", _EXAMPLE)


_EXAMPLE = "use one group, such as '(.+)_[0-9]+'"

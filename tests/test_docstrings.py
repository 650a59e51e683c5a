"""First lines of docstrings say what a thing is or does; they are no riddles."""

import re
from pathlib import Path

import qsens

RIDDLE = re.compile(r'"""(?:What|How|Which|Why|Where|When|Who)\b.*')


def test_no_docstring_begins_like_a_question():
    root = Path(qsens.__file__).parent
    found = {
        str(path.relative_to(root)): riddles
        for path in sorted(root.rglob("*.py"))
        if (riddles := RIDDLE.findall(path.read_text(encoding="utf-8")))
    }
    assert not found

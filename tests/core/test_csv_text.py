"""CSV: any text comes back, and no text begins a formula."""

import csv
import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qsens.core.csv_text import csv_of_records, csv_records, csv_text

TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.from_regex(
    r"\A'*[=+\-@\t\r\n]", fullmatch=False
)


@settings(max_examples=40)
@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=4))
@example([("a\rb", "\r\n"), ("=1+1", "'=1"), ("", "\0"), ("'", '"')])
def test_any_text_is_read_back(rows):
    text = csv_text(("=one", "two"), rows)
    assert text.encode().decode() == text
    assert [tuple(row.values()) for _, row in csv_records(text)] == rows
    assert not rows or list(next(csv_records(text))[1]) == ["=one", "two"]


@settings(max_examples=40)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_no_text_begins_a_formula(rows):
    for row in csv.reader(io.StringIO(csv_text(("name", "@block"), rows), newline="")):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for cell in row)


def test_numbers_stay_numbers():
    assert (
        csv_text(["a"], [[-1], [-0.5], [1e-05], [None], [True], ["-1"]])
        == 'a\n-1\n-0.5\n1e-05\n""\nTrue\n\'-1\n'
    )


def test_records_need_not_have_the_same_keys():
    assert csv_of_records([{"a": 1}, {"b": "x"}]) == "a,b\n1,\n,x\n"
    assert csv_of_records([]) == "\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1\n", "line 2 has 1 cells for 2 columns"),
        ("a\n1\n1,2\n", "line 3 has 2 cells for 1 columns"),
        (f"a\n{'x' * 200_000}\n", "line 2 is no CSV: field larger"),
        (f"{'x' * 200_000}\n", "line 1 is no CSV"),
    ],
)
def test_what_is_no_table_names_its_line(text, reason):
    with pytest.raises(ValueError, match=reason):
        list(csv_records(text))

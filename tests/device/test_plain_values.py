import pytest

from qsens.core.schema import parse_toml
from qsens.device.plain_values import DEEPEST, parse_json


def test_json_of_other_people_is_parsed_as_far_down_as_documents_go():
    assert parse_json("[" * DEEPEST + "]" * DEEPEST) is not None
    assert parse_json(b'{"a": [1, null, "x"]}') == {"a": [1, None, "x"]}


@pytest.mark.parametrize("levels", [DEEPEST + 1, 500, 200_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_json_that_is_nested_too_deep_is_a_value_error(opening, closing, levels):
    with pytest.raises(ValueError, match="nested more than 64 levels deep"):
        parse_json(opening * levels + "1" + closing * levels)


@pytest.mark.parametrize("text", [b"\xff{}", "", "{", "9" * 5000, "9" * 30, "[-9223372036854775809]"])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"\S"):
        parse_json(text)


@pytest.mark.parametrize(
    "content",
    [
        b"a = " + b"[" * 3000 + b"]" * 3000,
        b"a = " + b"[" * 80 + b"]" * 80,
        b"a = \xff",
        b"a = nan",
        b"a = [-inf]",
        b"a = 99999999999999999999",
        b".".join([b"a"] * 200_000) + b" = 1",
        b"x = {" + b" . ".join([b'"a"'] * 200_000) + b" = 1}",
    ],
    ids=["nested", "nested little", "bytes", "nan", "infinite", "large", "dotted", "dotted inside"],
)
def test_toml_beyond_the_bounds_or_no_text_is_a_value_error(content):
    with pytest.raises(ValueError, match=r"\S"):
        parse_toml(content)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_none_is_a_value_error(number):
    with pytest.raises(ValueError, match=r"a number that is -?(nan|inf)"):
        parse_json(f'{{"a": [{number}]}}')


def test_infinity_is_read_where_it_may_stand():
    assert parse_json("[Infinity]", only_finite=False) == [float("inf")]

"""Table 4 and Figure 5 from latency files that are made up."""

import csv

import pytest
from click.testing import CliRunner
from latency_tables import measured, write_table

from qsens.cli.main import main
from qsens.core.precision import Precision, PrecisionMap
from qsens.testing import example_layers

LAYERS = example_layers(4)
MIXED = PrecisionMap(Precision.INT8, ((LAYERS[3].name, Precision.FP16),))
MAPS = {**{precision.upper(): PrecisionMap(precision) for precision in Precision}, "MIX": MIXED}


def paper(*arguments):
    return CliRunner().invoke(main, ["zoo", "paper", *map(str, arguments)])


@pytest.fixture
def times(tmp_path):
    entries = [
        measured(label, MAPS[label], LAYERS, ms) for label, ms in {"FP32": 40, "FP16": 4, "INT8": 2}.items()
    ]
    return write_table(tmp_path / "nx.json", entries, LAYERS, device={"name": "NX"}, generator="talker")


def test_the_page_has_the_table_with_what_is_published_and_the_figure(times, tmp_path):
    result = paper("--only", "table4", "--latency", times, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    text = (tmp_path / "out" / "paper.md").read_text()
    assert "Table 4 and Figure 5. Latency on devices" in text
    row = next(line for line in text.splitlines() if "| INT8 |" in line)
    assert "20.00x" in row
    assert "1.8x to 2.3x" in row
    assert "19x in MIX" in text
    assert (tmp_path / "out" / "figures" / "figure5.png").exists()
    with (tmp_path / "out" / "table4.csv").open() as file:
        records = list(csv.DictReader(file))
    assert [entry["ours"] for entry in records if entry["quantity"] == "ms"] == ["40", "4", "2"]


def test_table_4_without_files_says_how_to_get_them(tmp_path):
    result = paper("--only", "table4", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "qsens bench RUN --latency-json FILE" in result.stderr

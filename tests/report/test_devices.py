"""The comparison of devices: groups, rows, figure, and the command."""

import csv
import json

import pytest
from click.testing import CliRunner
from latency_tables import measured, write_table

from qsens.cli.main import main
from qsens.core.precision import Precision, PrecisionMap
from qsens.report.figures.devices import device_groups, devices_figure, shown_labels
from qsens.report.figures.style import render_png
from qsens.selection.timings import read_latency_table
from qsens.testing import example_layers

LAYERS = example_layers(4)
MIXED = PrecisionMap(Precision.INT8, ((LAYERS[3].name, Precision.FP16),))
OTHER = PrecisionMap(Precision.INT8, ((LAYERS[0].name, Precision.FP16),))
MAPS = {
    **{precision.upper(): PrecisionMap(precision) for precision in Precision},
    "MIX": MIXED,
    "trial 9": OTHER,
}


@pytest.fixture
def table(tmp_path):
    def table(name, *, batch=1, energy=None, **times):
        entries = [
            measured(
                label.replace("_", " "),
                MAPS[label.replace("_", " ")],
                LAYERS,
                ms,
                batch=batch,
                energy_mj=energy,
            )
            for label, ms in times.items()
        ]
        return write_table(tmp_path / f"{name}.json", entries, LAYERS, device={"name": name})

    return table


def groups_of(*paths, **options):
    return device_groups([read_latency_table(path) for path in paths], **options)


def test_times_images_a_second_and_speed_ups_are_those_of_the_file(table):
    (group,) = groups_of(table("Board", batch=4, FP32=80.0, INT8=20.0, energy=8.0))
    assert (group.device, group.runtime, group.generator, group.batch) == ("Board", "openvino 1.0", "net", 4)
    fp32, int8 = group.rows
    assert (fp32.images_per_s, int8.images_per_s) == (50.0, 200.0)
    assert (fp32.speed_up, int8.speed_up) == (1.0, 4.0)
    assert int8.energy_mj == 2.0


def test_maps_stand_in_the_papers_order_and_single_trials_only_when_asked_for(table):
    path = table("Board", INT8=1.0, trial_9=3.0, MIX=2.0, FP32=4.0)
    assert [row.label for row in groups_of(path)[0].rows] == ["FP32", "MIX", "INT8"]
    everything = groups_of(path, all_maps=True)
    assert [row.label for row in everything[0].rows] == ["FP32", "MIX", "INT8", "trial 9"]
    assert shown_labels(everything) == ("FP32", "MIX", "INT8", "trial 9")
    assert [row.label for row in groups_of(table("Other", trial_9=3.0))[0].rows] == ["trial 9"]


def test_maps_of_two_files_are_not_compared(table, tmp_path):
    """A bundle's script measures MIX alone, at another time: its speed-up is over nothing."""
    run = table("Board", FP32=4.0, MIX=3.0)
    bundle = tmp_path / "bundle.json"
    write_table(bundle, [measured("MIX", MIXED, LAYERS, 2.0)], LAYERS, device={"name": "Board"})
    first, second = groups_of(run, bundle)
    assert [row.speed_up for row in first.rows] == [1.0, 4 / 3]
    assert [row.speed_up for row in second.rows] == [None]


def test_without_fp32_there_is_no_speed_up(table):
    (group,) = groups_of(table("Board", INT8=1.0))
    assert group.rows[0].speed_up is None


def test_the_figure_has_two_panels_a_generator_and_batch_and_writes_every_time(table):
    groups = groups_of(
        table("Long Name Of A Board That Needs Two Lines", FP32=4.0, INT8=1.0), table("B", INT8=123.4),
        table("C", batch=16, FP32=32.0),
    )  # fmt: skip
    figure = devices_figure(groups)
    assert len(figure.axes) == 4
    left, right = figure.axes[:2]
    assert [text.get_text() for text in left.texts] == ["4.00", "1.00", "123"]
    assert [text.get_text() for text in right.texts] == ["1.00x", "4.00x", "FP32 not measured"]
    assert len(left.patches) == 3
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names[0].splitlines()[-1] == "openvino 1.0"
    assert all(len(line) <= 26 for line in names[0].splitlines())
    assert render_png(figure).startswith(b"\x89PNG")


def devices(*arguments):
    return CliRunner().invoke(main, ["devices", *map(str, arguments)])


def test_the_command_prints_a_table_and_writes_figure_and_csv(table, tmp_path):
    path = table("Board", FP32=4.0, FP16=2.0, MIX=1.5, INT8=1.0)
    result = devices(path, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == [
        "device", "runtime", "generator", "batch", "map", "ms", "images/s", "speed-up", "size", "MB",
        "mismatches",
    ]  # fmt: skip
    assert lines[1].split() == [
        "Board",
        "openvino",
        "1.0",
        "net",
        "1",
        "FP32",
        "4",
        "250.0",
        "1.00x",
        "0.00",
        "0",
    ]
    assert lines[4].split() == ["INT8", "1", "1000.0", "4.00x", "0.00", "0"]
    assert {entry.name for entry in (tmp_path / "out").iterdir()} == {
        "devices.csv",
        "devices.png",
        "devices.svg",
    }
    with (tmp_path / "out" / "devices.csv").open() as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["FP32", "FP16", "MIX", "INT8"]


def test_json_holds_one_record_a_map(table):
    found = json.loads(devices(table("Board", FP32=4.0, INT8=1.0), "--json").stdout)
    assert [(entry["device"], entry["label"], entry["speed_up"]) for entry in found] == [
        ("Board", "FP32", 1.0), ("Board", "INT8", 4.0),
    ]  # fmt: skip


def test_a_file_that_is_none_and_a_file_without_numbers_are_one_clear_error(table, tmp_path):
    wrong = tmp_path / "wrong.json"
    wrong.write_text("{}")
    for path, text in ((wrong, "holds no 'measurements'"), (table("Board"), "hold no measurements")):
        result = devices(path)
        assert result.exit_code == 2
        assert text in result.stderr
        assert "Hint: " in result.stderr

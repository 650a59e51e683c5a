"""The latency file: what is written is read back, whole, and nothing else is taken for one."""

import json
import os
from pathlib import Path

import pytest

from qsens.core.errors import SpecError
from qsens.core.schema import check_schema
from qsens.device.audit import LayerAudit
from qsens.device.errors import DeviceError
from qsens.device.latency import (
    Latency,
    MapLatency,
    MeasuredGraph,
    latency_document,
    layer_rows,
    mismatched_layers,
    read_latency,
    write_latency,
)
from qsens.device.machine import describe_device

AUDIT = (
    LayerAudit("enc.0", "/enc/Conv", "enc + relu", "int8", "int8", "int8"),
    LayerAudit("enc.1", "/enc1/Conv", "enc1", "int8", "int8", "fp32"),
    LayerAudit("out", "/out/Conv", None, "fp16", "fp16", None),
)


def document():
    map_json = {"default": "int8", "overrides": {"out": "fp16"}}
    entries = [
        MapLatency(
            label="MIX",
            precision_map=map_json,
            map_digest="0123456789abcdef",
            flavour="u8",
            batch=batch,
            latency=Latency(30, 2.0, 1.9, 2.2, 1.8),
            size_bytes=1000,
            energy_mj=3.5,
            mismatches=mismatched_layers(AUDIT),
            layers=layer_rows(AUDIT, {"enc + relu": 0.5}),
        )
        for batch in (16, 1)
    ]
    return latency_document(
        entries,
        device=describe_device("openvino"),
        runtime={"name": "openvino", "version": "1"},
        graph=MeasuredGraph("talker", "abc", ("enc.0", "enc.1", "out")),
    )


def test_what_is_written_is_read_back_and_keeps_to_the_schema(tmp_path):
    path, written = tmp_path / "latency.json", document()
    write_latency(path, written)
    assert read_latency(path) == written
    assert [entry.name for entry in tmp_path.iterdir()] == ["latency.json"]
    check_schema(written, "latency", "here")
    assert {entry["batch"] for entry in written["measurements"]} == {1, 16}


def test_layers_have_three_names_and_no_time_where_none_is_told():
    rows = layer_rows(AUDIT, {"enc + relu": 0.5})
    assert [row["ms"] for row in rows] == [0.5, None, None]
    assert rows[0] == {
        "layer": "enc.0", "node": "/enc/Conv", "engine_layer": "enc + relu",
        "expected": "int8", "actual": "int8", "ms": 0.5,
    }  # fmt: skip
    assert mismatched_layers(AUDIT) == ("enc.1",)


BROKEN = [
    (lambda value: value.pop("graph"), "'graph' is missing"),
    (lambda value: value["measurements"][0].update(batch=0), "measurements.0.batch"),
    (lambda value: value["measurements"][0].update(median_ms="fast"), "measurements.0.median_ms"),
    (lambda value: value["runtime"].pop("version"), "runtime.version"),
    (lambda value: value["device"].pop("name"), "device.name"),
    (lambda value: value.update(host="secret"), "no key named 'host'"),
]


@pytest.mark.parametrize(("damage", "text"), BROKEN)
def test_the_schema_names_the_wrong_key(damage, text):
    value = document()
    damage(value)
    with pytest.raises(SpecError) as caught:
        check_schema(value, "latency", "here")
    assert text in caught.value.message


WRONG = [
    ("{", "cannot read the latency file"),
    (json.dumps({"measurements": [], "schema_version": 99}), "schema version 99"),
    (json.dumps({"schema_version": 1}), "holds no 'measurements'"),
    (json.dumps([1]), "holds no 'measurements'"),
    ('{"measurements": ' + "[" * 100_000, "nested more than 64 levels deep"),
    ('{"measurements": [NaN]}', "holds a number that is nan"),
    ('{"measurements": [1e999]}', "holds a number that is inf"),
    (f'{{"measurements": [{"9" * 100}]}}', "a whole number beyond 64 bits"),
    (f'{{"measurements": [{"9" * 5000}]}}', "cannot read the latency file"),
    ('{"measurements": ["\\ud800"]}', "surrogates not allowed"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=range(len(WRONG)))
def test_something_else_is_refused(tmp_path, text, message):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(DeviceError, match=message):
        read_latency(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DeviceError, match="it is a pipe"):
        read_latency(tmp_path / "pipe")


@pytest.mark.parametrize("place", ["/", "a\0b.json"])
def test_a_path_that_can_be_no_file_is_an_error(place):
    with pytest.raises(DeviceError, match="cannot write"):
        write_latency(Path(place), document())


def test_an_absent_file_and_an_unwritable_folder_are_one_error(tmp_path):
    with pytest.raises(DeviceError, match=r"absent\.json"):
        read_latency(tmp_path / "absent.json")
    with pytest.raises(DeviceError, match="cannot write"):
        write_latency(tmp_path / "no" / "folder.json", document())
    (tmp_path / "folder").mkdir()
    with pytest.raises(DeviceError, match="cannot write"):
        write_latency(tmp_path / "folder", document())
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_a_number_that_json_does_not_know_is_never_written(tmp_path):
    value = document()
    value["measurements"][0]["median_ms"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        write_latency(tmp_path / "latency.json", value)
    assert not list(tmp_path.iterdir())

"""`qsens plugins` and `qsens doctor`."""

import json

from click.testing import CliRunner

from qsens.cli.main import main
from qsens.cli.text import text_table
from qsens.core.plugins import PluginRecord
from qsens.python.machine import cpu_flags, usable_cpus


def test_plugins_lists_builtins_with_their_origin():
    result = CliRunner().invoke(main, ["plugins"])
    assert result.exit_code == 0
    line = next(line for line in result.stdout.splitlines() if " boundary " in line)
    assert "qsens.search.enumerations:Boundary" in line
    assert line.endswith("ok")


def test_a_broken_plugin_is_listed_with_its_reason(monkeypatch):
    broken = PluginRecord("backends", "acme", "acme:Backend", "acme-tools", "no module named acme")
    monkeypatch.setattr("qsens.cli.main.list_plugins", lambda: (broken,))
    assert "no module named acme" in CliRunner().invoke(main, ["plugins"]).stdout
    assert (
        json.loads(CliRunner().invoke(main, ["plugins", "--json"]).stdout)[0]["distribution"] == "acme-tools"
    )


def test_doctor_speaks_of_machine_libraries_plugins_and_extractors():
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 0
    found = {(entry["topic"], entry["name"]): entry for entry in json.loads(result.stdout)}
    assert found["machine", "python"]["is_usable"] is True
    assert int(found["machine", "cpus"]["detail"]) == usable_cpus()
    assert found["library", "numpy"]["is_usable"] is True
    assert ("backends", "onnxruntime") in found
    assert ("extractors", "lite0") in found
    assert ("onnxruntime", "CPUExecutionProvider") in found


def test_doctor_says_why_an_extractor_cannot_run(monkeypatch):
    monkeypatch.setattr("qsens.scoring.lite0.importlib.util.find_spec", lambda module: None)
    result = CliRunner().invoke(main, ["doctor"])
    line = next(
        line for line in result.stdout.splitlines() if line.startswith("extractors") and "lite0" in line
    )
    assert "NO" in line
    assert "qsens[lite]" in line


def test_cpu_flags_are_read_from_the_first_processor(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor: 0\nflags\t: sse avx2 avx512_vnni\n\nprocessor: 1\nflags\t: sse\n")
    assert cpu_flags(path) == ["avx2", "avx512_vnni"]
    assert cpu_flags(tmp_path / "absent") is None


def test_doctor_ends_with_a_command_for_what_is_here(monkeypatch):
    monkeypatch.setattr("qsens.core.targets.declared_targets", lambda: {})
    monkeypatch.setattr("qsens.python.machine.findings", lambda: ())
    stdout = CliRunner().invoke(main, ["doctor"]).stdout
    assert "Next: qsens plan GENERATOR.onnx --for TARGET --calibration IMAGES" in stdout


def test_a_table_without_rows_is_its_header():
    assert text_table(("a", "b"), []) == "a  b"


def test_a_backend_that_the_machine_cannot_use_says_why_and_what_still_works(monkeypatch):
    problem = "TensorRT is not installed; no NVIDIA driver"
    monkeypatch.setattr("qsens.engines.tensorrt.problem", lambda: problem)
    monkeypatch.setattr("qsens.engines.tensorrt_rtx.problem", lambda: None)
    found = {
        (entry["topic"], entry["name"]): entry
        for entry in json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)
    }
    assert found["backends", "tensorrt"] == {
        "topic": "backends",
        "name": "tensorrt",
        "is_usable": False,
        "detail": problem,
    }
    assert found["target", "tensorrt"]["detail"].startswith("written here; compiled as a check")
    assert found["target", "tensorrt-legacy"]["detail"] == "written here; built and checked on the device"
    assert found["target", "onnxruntime"]["detail"] == "written, built and checked here"


def test_plugins_and_doctor_say_the_same_of_every_plugin():
    listed = json.loads(CliRunner().invoke(main, ["plugins", "--json"]).stdout)
    found = {
        (entry["topic"], entry["name"]): entry
        for entry in json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)
    }
    for record in listed:
        entry = found[record["group"], record["name"]]
        assert entry["is_usable"] is (record["problem"] is None)
        assert entry["detail"] == (record["problem"] or record["distribution"])


def test_a_table_fits_the_terminal_between_words(monkeypatch):
    rows = [("face_decoder.6.conv", "INT8 except the last two blocks of the decoder, which stay", "1.25")]
    whole = text_table(("layer", "because", "share"), rows, right=(2,))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "50")
    lines = text_table(("layer", "because", "share"), rows, right=(2,)).splitlines()
    assert max(map(len, lines)) <= 50 < max(map(len, whole.splitlines()))
    assert sorted(" ".join(lines).split()) == sorted(whole.split())
    assert lines[1].endswith("1.25")

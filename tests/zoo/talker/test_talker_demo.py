"""The talker's demo names what it ships, and makes its sets where they are not shipped."""

from qsens.calibration.manifest import read_manifest
from qsens.core.spec import spec_from_values
from qsens.zoo.talker import demo


def test_the_spec_is_one_that_a_sweep_takes(tmp_path):
    values = demo.TalkerDemo().spec_values(tmp_path)
    spec = spec_from_values(values, "the demo", {})
    assert spec.model == "wav2lip"
    assert (spec.target, spec.placement, spec.grid) == ("openvino", "residual", "unsigned")
    assert spec.evaluation == spec.reference
    assert not list(tmp_path.iterdir())


def test_the_shipped_sets_are_those_the_demo_describes():
    for part, described in demo.SETS.items():
        manifest = read_manifest(demo.SHIPPED / part)
        frames = [file for file in manifest.files if file.name.endswith(".jpg")]
        assert len(frames) == described.frames
        assert f"seed = {described.seed}\n" in (demo.SHIPPED / part / "corpus.toml").read_text()
        assert manifest.licence == "CC0-1.0"


def test_sets_that_are_not_shipped_are_made_once(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SHIPPED", tmp_path / "absent")
    monkeypatch.setattr(demo, "SETS", {"evaluation": demo.DemoSet(frames=10, seed=3)})
    made = demo.demo_set("evaluation", tmp_path)
    before = read_manifest(made)
    assert before.opener == "clips"
    assert demo.demo_set("evaluation", tmp_path) == made
    assert read_manifest(made) == before


def test_the_notes_say_where_faces_and_weights_come_from():
    notes = " ".join(demo.TalkerDemo().notes())
    assert "procedural corpus" in notes
    assert "none of them was trained on" in notes

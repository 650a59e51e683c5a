"""Bundles of generators that call their network more than once: their own script plays the loop."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from tiny_loops import FRAMES, RECURRENT, SAMPLER, SMALL, noise_predictor, recurrent_generator, write_clips
from tiny_models import conv_model, run_model
from tiny_photos import write_photos
from tiny_sweeps import score_run

from qsens.api import export, verify
from qsens.core.targets import target_named
from qsens.deploy.bundle import ExportOptions
from qsens.device.bundle_files import write_checksums
from qsens.device.goldens import read_goldens


def looped_run(folder, kind):
    model = {"recurrent": recurrent_generator, "sampler": noise_predictor, "own": conv_model}[kind]()
    onnx.save(model, folder / "g.onnx")
    values = {"checkpoint": str(folder / "g.onnx"), "strategy": "ends", **SMALL}
    if kind == "recurrent":
        clips = str(write_clips(folder / "clips"))
        samples = {"calibration_samples": FRAMES, "evaluation_samples": 2 * FRAMES}
        values |= {"loop": RECURRENT, "calibration": clips, "output": {"name": "picture"}, **samples}
    elif kind == "sampler":
        values |= {"loop": SAMPLER, "calibration": "noise", "output": {"value_range": [-1.0, 1.0]}}
        values |= {"calibration_samples": 2, "evaluation_samples": 4}
    else:
        values |= {"loop": {"name": "tiny_loops:Twice"}, "calibration": str(write_photos(folder / "photos"))}
    score_run(out=folder / "run", **values)
    options = ExportOptions(target_named("openvino").target, folder / "bundle", golden_samples=2)
    (bundle,) = export(folder / "run", options, trials=[2])
    return bundle.folder


@pytest.mark.parametrize(("kind", "held"), [("recurrent", {"frame"}), ("sampler", {"x"}), ("own", {"image"})])
def test_a_bundle_holds_goldens_of_a_short_loop_and_plays_it(tmp_path, kind, held):
    bundle = looped_run(tmp_path, kind)
    goldens = read_goldens(bundle / "goldens.npz")
    assert set(goldens.inputs) == held
    assert len(goldens) == 2
    report = verify(bundle, repeats=1)
    assert report.exit_code == 0, report.goldens.problems
    assert report.latency.runs == 1
    document = json.loads((bundle / "bundle.json").read_text())
    assert document.get("loop", {}).get("name") == (None if kind == "own" else kind)


def test_an_engine_that_is_right_once_and_wrong_in_the_loop_is_found(tmp_path):
    bundle = looped_run(tmp_path, "recurrent")
    document = json.loads((bundle / "bundle.json").read_text())
    document["loop"]["options"]["states"] = {"h_in": "h_in"}
    (bundle / "bundle.json").write_text(json.dumps(document))
    write_checksums(bundle)
    found = subprocess.run(
        [sys.executable, bundle / "verify.py", "--no-latency"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert "the network has no output 'h_in'" in found.stderr


def test_the_second_frame_of_a_golden_clip_depends_on_the_first(tmp_path):
    goldens = read_goldens(looped_run(tmp_path, "recurrent") / "goldens.npz")
    (alone,) = onnx_outputs(goldens.inputs["frame"][1:2])
    assert not np.allclose(alone, goldens.fp32["picture"][1], atol=1e-3)


def onnx_outputs(frame):
    return run_model(recurrent_generator(), {"frame": frame, "h_in": np.zeros((1, 4, 8, 8), np.float32)})[0]


@pytest.mark.parametrize("kind", ["recurrent", "sampler"])
def test_the_readme_plays_the_loop(tmp_path, monkeypatch, kind):
    bundle = looped_run(tmp_path, kind)
    text = (bundle / "README.md").read_text().partition("### The loop")[2]
    monkeypatch.chdir(bundle)
    model = recurrent_generator() if kind == "recurrent" else noise_predictor()
    names = [value.name for value in model.graph.output]
    known = {"run": lambda feed: dict(zip(names, run_model(model, dict(feed)), strict=True))}
    exec(text.partition("```python\n")[2].partition("```")[0], known)
    wanted = read_goldens(bundle / "goldens.npz").fp32[names[0]]
    np.testing.assert_allclose(known["made"][names[0]], wanted, atol=1e-5)

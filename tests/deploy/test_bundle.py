"""A bundle on disk: what it holds, where it may be written, and that it is complete or absent."""

import csv
import errno
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from qsens.core.errors import RunFolderError, ScoreError, SpecError, VerificationError
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.schema import check_schema
from qsens.core.targets import declared_targets
from qsens.deploy.bundle import ExportOptions, _beside, export_bundle
from qsens.deploy.bundle_document import relative_run
from qsens.deploy.bundle_script import compare
from qsens.deploy.chosen_map import map_of_trial
from qsens.deploy.golden_samples import GoldenSamples, exact_outputs
from qsens.deploy.verify import checked_files
from qsens.device.bundle_files import read_bundle
from qsens.device.goldens import bundle_goldens, picture_psnr, read_goldens
from qsens.device.leftovers import remove_leftovers
from qsens.engines.tensorrt_files import read_calibration_cache
from qsens.selection.precision_map_file import read_precision_map


def export(reopened, out, target="onnxruntime", trial=1, **options):
    options = {"takes_back_to_float": True} | options
    wanted = ExportOptions(declared_targets()[target].target, out, **options)
    return export_bundle(reopened, map_of_trial(reopened, trial), wanted)


def test_every_file_is_there_and_covered_by_a_checksum(ort_bundle):
    folder = ort_bundle.folder
    listed = [line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    for name in (
        *("bundle.json", "model.onnx", "precision_map.json", "ranges.json", "layers.csv", "goldens.npz"),
        *("verify.py", "README.md", "qsens/__init__.py", "qsens/device/check.py"),
    ):
        assert name in listed
    assert compare(folder).files == len(listed)
    assert not list(folder.parent.glob(".*.partial"))


def test_exports_of_one_run_are_the_same_bytes(reopened, tmp_path):
    long_ago = replace(reopened.provenance, created="2020-02-02T02:02:02+00:00")
    old = replace(reopened, provenance=long_ago)
    one, other = (export(old, tmp_path / name) for name in ("one", "other"))
    assert one.digest == other.digest
    for name in ("bundle.json", "precision_map.json"):
        assert json.loads((one.folder / name).read_text())["date"] == long_ago.created


def test_the_document_keeps_to_the_published_schema_and_names_what_was_scored(ort_bundle, reopened):
    document = json.loads((ort_bundle.folder / "bundle.json").read_text())
    check_schema(document, "bundle", "bundle.json")
    trial = reopened.study.trials[2]
    assert document["scores"]["trial"] == 2
    assert document["scores"]["chosen"][0]["value"] == pytest.approx(trial.score("psnr").value)
    assert document["model"]["graph"] == reopened.graph.digest
    assert document["map"]["int8_macs_share_requested"] == 1.0
    assert document["batch"] == 3
    assert document["run"]["spec_digest"] == reopened.study.spec_digest
    assert read_precision_map(ort_bundle.folder / "precision_map.json").document["trial"] == 2


def test_layers_without_an_int8_kernel_are_in_float_and_say_why(ort_bundle):
    with (ort_bundle.folder / "layers.csv").open(newline="") as file:
        rows = {row["layer"]: row for row in csv.DictReader(file)}
    assert rows["up"]["requested"] == "int8"
    assert rows["up"]["expected"] == rows["up"]["actual"] == "fp32"
    assert "ConvTranspose here: it ran in fp32" in rows["up"]["reason"]
    assert "up" in [entry.layer for entry in ort_bundle.returned]
    document = ort_bundle.document
    assert document["map"]["int8_macs_share_deployed"] < 1.0
    page = (ort_bundle.folder / "README.md").read_text()
    assert "Layers that were to be INT8" in page
    assert "The scores are those of the map as it was asked for" in page
    assert "| psnr of the map as asked, not as exported |" in page
    assert page.index("## Files") < page.index("## Run it")
    assert f"audited at export with {document['export_audit']['runtime']['version']}" in page
    # No Q/DQ is left at a layer that is in float.
    graph = onnx.load(ort_bundle.folder / "model.onnx").graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    up = next(node for node in graph.node if node.name == "up")
    assert not any(makers.get(name) == "DequantizeLinear" for name in up.input)


def test_goldens_are_spread_over_the_evaluation_set(ort_bundle, reopened):
    goldens = read_goldens(ort_bundle.folder / "goldens.npz")
    places = ort_bundle.document["goldens"]["samples"]
    assert places == [0, 1, 2, 3]
    for place, image in zip(places, goldens.inputs["image"], strict=True):
        np.testing.assert_array_equal(image, reopened.evaluation.sample(place)["image"])
    psnr = picture_psnr(goldens.exact["picture"], goldens.fp32["picture"], (0.0, 1.0))
    assert ort_bundle.document["goldens"]["exact_psnr_db"] == pytest.approx(psnr)
    bounds = read_bundle(ort_bundle.folder).bounds
    assert bounds.fp32_psnr_db == pytest.approx(min(psnr - 0.5, 60))
    assert bounds.exact_psnr_db == pytest.approx(min(psnr - 4, 60))


@pytest.mark.parametrize(("target", "flavour"), [("tensorrt", "strong"), ("tensorrt-legacy", "weak")])
def test_a_bundle_for_tensorrt_says_how_to_build_without_python(
    reopened, tmp_path, monkeypatch, target, flavour
):
    monkeypatch.setattr("qsens.engines.tensorrt.problem", lambda: "tensorrt is not installed here")
    exported = export(reopened, tmp_path / "trt", target, trial=2, batch=2)
    assert exported.unaudited == "tensorrt is not installed here"
    assert exported.document["flavour"] == flavour
    assert exported.document["export_audit"] is None
    assert exported.document["map"]["int8_macs_share_deployed"] == 1.0
    command = (exported.folder / "trtexec.txt").read_text()
    assert "--onnx=model.onnx" in command
    assert "image:2x3x8x8" in command
    assert command.rstrip() in (exported.folder / "README.md").read_text()
    cache = read_calibration_cache((exported.folder / "calibration.cache").read_text())
    ranges = {entry.tensor: entry.amax for entry in reopened.ranges.tensors}
    assert cache.scales["image"] == np.float32(ranges["image"]) / np.float32(127)
    assert (exported.folder / "fp32.onnx").exists() == (target == "tensorrt-legacy")
    compare(exported.folder)


def test_a_fixed_batch_is_not_exported_for_more(reopened, tmp_path):
    graph = replace(reopened.graph, can_batch=False)
    fixed = replace(reopened, plan=replace(reopened.plan, graph=graph))
    with pytest.raises(SpecError, match="one sample at a time, not 2"):
        export(fixed, tmp_path / "out", batch=2)


@pytest.mark.parametrize("target", declared_targets())
@pytest.mark.parametrize("trial", [1, 2, 3])
def test_bundles_of_every_target_and_map_are_opened_by_their_check(reopened, tmp_path, target, trial):
    if target == "openvino":
        pytest.importorskip("openvino")
    exported = export(reopened, tmp_path / "out", target, trial)
    checked = checked_files(exported.folder, exported.digest)
    assert len(bundle_goldens(checked.bundle)) == 4
    assert len(checked.bundle.asked) == 5


def test_what_is_not_a_bundle_is_not_overwritten(reopened, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunFolderError, match="exists and is not a bundle"):
        export(reopened, tmp_path / "mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="exists and is not a bundle"):
        export(reopened, tmp_path / "file")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_nothing_is_written_inside_another_bundle(reopened, bundle):
    with pytest.raises(RunFolderError, match="would lie inside the bundle"):
        export(reopened, bundle / "trial-0001")
    compare(bundle)


def test_an_earlier_bundle_is_replaced(reopened, bundle):
    (bundle / "old.txt").write_text("of the earlier export")
    export(reopened, bundle, golden_samples=1)
    compare(bundle)
    assert len(read_goldens(bundle / "goldens.npz")) == 1
    assert not list(bundle.parent.glob(".*"))


def test_a_failed_export_leaves_the_earlier_bundle(reopened, bundle, monkeypatch):
    before = (bundle / "SHA256SUMS").read_text()

    def fail(*_):
        raise VerificationError("no")

    monkeypatch.setattr("qsens.deploy.bundle.exact_outputs", fail)
    with pytest.raises(VerificationError):
        export(reopened, bundle)
    assert (bundle / "SHA256SUMS").read_text() == before
    assert not list(bundle.parent.glob(".*"))


def test_an_output_that_is_no_number_is_named(reopened):
    (entry,) = reopened.graph.inputs
    broken = np.full((1, *entry.shape), np.nan, np.float32)
    samples = GoldenSamples((), {entry.name: broken}, {entry.name: broken}, None)
    with pytest.raises(ScoreError, match=f"output {reopened.graph.outputs[0]!r} of the goldens") as caught:
        exact_outputs(reopened, PrecisionMap(Precision.FP32), samples)
    assert "the generator itself makes them" in caught.value.hint


def left_by_a_killed_export(out, kind):
    """A folder as a killed export of `out` leaves it: its mark is that of a process that has ended."""
    code = "from qsens.device.leftovers import process_mark; print(process_mark())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    left = out.with_name(f".{out.name}.{done.stdout.strip()}{kind}")
    left.mkdir()
    (left / "model.onnx").write_text("left")
    return left


def test_what_a_killed_export_left_goes_with_the_next_one(reopened, bundle):
    out = bundle
    left = [left_by_a_killed_export(out, kind) for kind in ("-x1.partial", ".replaced")]
    other = left_by_a_killed_export(out.with_name("bundle.other"), "-x2.partial")
    living = out.with_name(f"{_beside(out)}-x3.partial")
    living.mkdir()
    export(reopened, out, golden_samples=1)
    assert not any(path.exists() for path in left)
    assert other.exists()
    assert living.exists()


def test_a_bundle_that_a_killed_export_moved_away_comes_back(reopened, bundle, monkeypatch):
    left = left_by_a_killed_export(bundle, ".replaced")
    shutil.rmtree(left)
    bundle.rename(left)

    def fail(*_):
        raise VerificationError("no")

    monkeypatch.setattr("qsens.deploy.bundle.exact_outputs", fail)
    with pytest.raises(VerificationError):
        export(reopened, bundle)
    compare(bundle)
    assert not list(bundle.parent.glob(".*"))


def test_tidying_elsewhere_does_not_take_a_bundle_that_was_moved_away(bundle):
    left = left_by_a_killed_export(bundle, ".replaced")
    partial = left_by_a_killed_export(bundle, "-x1.partial")
    remove_leftovers(bundle.parent)
    assert left.exists()
    assert not partial.exists()


def test_of_two_exports_at_once_the_slower_one_keeps_what_the_faster_wrote(reopened, bundle, monkeypatch):
    rename = Path.rename

    def rename_late(path, target):
        """Another export takes the place once the earlier bundle is moved away."""
        result = rename(path, target)
        if str(target).endswith(".replaced"):
            shutil.copytree(target, bundle)
        return result

    monkeypatch.setattr(Path, "rename", rename_late)
    with pytest.raises(RunFolderError, match="cannot write"):
        export(reopened, bundle)
    monkeypatch.undo()
    compare(bundle)
    assert not list(bundle.parent.glob(".*"))


def test_a_bundle_that_cannot_be_replaced_stays(reopened, bundle, monkeypatch):
    rename = Path.rename

    def refuse(path, target):
        if path.suffix == ".partial":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    before = (bundle / "SHA256SUMS").read_text()
    with pytest.raises(RunFolderError, match="Input/output error"):
        export(reopened, bundle)
    assert (bundle / "SHA256SUMS").read_text() == before
    assert not list(bundle.parent.glob(".*"))


def test_strict_writes_nothing(reopened, tmp_path):
    with pytest.raises(VerificationError, match="ONNX Runtime runs"):
        export(reopened, tmp_path / "out", trial=2, strict=True)
    assert list(tmp_path.iterdir()) == []


def test_the_run_is_named_only_where_that_tells_nothing_of_the_machine(tmp_path, monkeypatch):
    run = tmp_path / "home" / "run"
    assert relative_run(run, run / "bundle") == ".."
    assert relative_run(run, run / "bundle" / "trial-0001") == "../.."
    assert relative_run(run, tmp_path / "elsewhere") is None
    monkeypatch.chdir(tmp_path)
    assert relative_run(run, tmp_path / "out" / "bundle") == "../../home/run"


def test_the_pages_example_runs(ort_bundle, tmp_path, monkeypatch):
    folder = shutil.copytree(ort_bundle.folder, tmp_path / "bundle")
    monkeypatch.chdir(folder)
    values = run_example((folder / "README.md").read_text())
    fp32 = read_goldens(folder / "goldens.npz").fp32["picture"]
    assert picture_psnr(values["picture"], np.repeat(fp32[:1], 3, axis=0), (0.0, 1.0)) > 40


def run_example(page):
    code = page.split("```python\n")[1].split("```")[0]
    values = {}
    exec(code, values)
    return values

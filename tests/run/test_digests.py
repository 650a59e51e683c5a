"""Files of a run that are replaced after they were written: noticed, and made again or refused."""

import json
import shutil

import numpy as np
import pytest
from tiny_sweeps import SMALL_SWEEP, score_run

import qsens
from qsens.core.errors import BuildError, QsensWarning, RunFolderError
from qsens.core.trial import Outcome
from qsens.engines.onnxruntime import OnnxRuntimeBackend
from qsens.run.evidence import load_evidence, samples_path
from qsens.run.folder import RunFolder, read_provenance, read_run_spec, read_study
from qsens.run.paired_errors import paired_errors
from qsens.run.paths import RunPaths
from qsens.run.reopen import reopen_run


def sweep(project, photos, out):
    return score_run(project / "generator.onnx", out=out, calibration=str(photos), **SMALL_SWEEP)


@pytest.fixture
def run(finished_run, tmp_path):
    return shutil.copytree(finished_run / "run", tmp_path / "run")


def scores(study):
    return [trial.scores for trial in study.trials]


def without_last_trials(run, kept):
    path = RunPaths(run).journal_path
    path.write_text("".join(path.read_text().splitlines(keepends=True)[: kept + 1]))


def replace_images(run):
    path = RunPaths(run).evidence / "fp32-images.npy"
    np.save(path, 255 - np.load(path))


def replace_ranges(run):
    path = RunPaths(run).ranges_path
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "amax": arrays["amax"] * 3})


def replace_layers(run):
    path = RunPaths(run).layers_path
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], *lines[:0:-1]]))


@pytest.mark.parametrize("replaced", [replace_images, replace_ranges, replace_layers])
def test_a_resumed_sweep_makes_a_replaced_file_again_and_scores_as_before(finished_run, run, replaced):
    before = read_study(run)
    without_last_trials(run, 3)
    replaced(run)
    with pytest.warns(QsensWarning, match="is not the file that the run wrote"):
        after = sweep(finished_run, finished_run / "photos", run)
    assert scores(after) == scores(before)
    assert [trial.evidence for trial in after.trials] == [trial.evidence for trial in before.trials]


def test_a_resumed_sweep_of_files_as_written_does_not_warn(finished_run, run, recwarn):
    without_last_trials(run, 3)
    sweep(finished_run, finished_run / "photos", run)
    assert not [warning for warning in recwarn if warning.category is QsensWarning]


def test_replaced_ranges_are_not_exported(run):
    replace_ranges(run)
    with pytest.raises(RunFolderError, match=r"ranges\.npz is not the file that the run wrote"):
        reopen_run(run)


def test_replaced_layers_are_not_reported(run):
    replace_layers(run)
    with pytest.raises(RunFolderError, match=r"layers\.csv is not the file that the run wrote") as caught:
        read_study(run)
    assert "the same command" in caught.value.hint


def test_replaced_evidence_and_pictures_are_left_out_of_the_report(run, no_figures):
    paths, (one, other) = RunPaths(run), read_study(run).trials[1:3]
    assert paired_errors(paths.evidence)("psnr", one, other) is not None
    shutil.copy(paths.evidence / "trial-00003.npz", paths.evidence / "trial-00002.npz")
    shutil.copy(samples_path(paths.samples, 3), samples_path(paths.samples, 2))
    with pytest.warns(QsensWarning, match=r"trial-0000?2\.npz is not the file") as caught:
        qsens.write_report(run)
    assert {"trial-00002.npz", "trial-0002.npz"} == {
        name for name in ("trial-00002.npz", "trial-0002.npz") if any(name in str(w.message) for w in caught)
    }
    with pytest.warns(QsensWarning):
        assert load_evidence(paths.evidence, 2, other.digest_of("evidence")) is None


def test_a_run_without_digests_opens_and_goes_on(finished_run, run):
    paths, before = RunPaths(run), read_study(run)
    lines = [json.loads(line) for line in paths.journal_path.read_text().splitlines()[:4]]
    for line in lines:
        line.pop("evidence", None)
    paths.journal_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    provenance = json.loads(paths.provenance_path.read_text())
    provenance.pop("files")
    paths.provenance_path.write_text(json.dumps(provenance))
    assert scores(sweep(finished_run, finished_run / "photos", run)) == scores(before)
    assert "ranges.npz" in read_provenance(run).files
    reopen_run(run)


def test_a_trial_that_fails_shows_no_pictures_of_one_that_had_its_number(finished_run, run, monkeypatch):

    def fails(self, lowered):
        raise BuildError("no engine")

    without_last_trials(run, 3)
    monkeypatch.setattr(OnnxRuntimeBackend, "build", fails)
    study = sweep(finished_run, finished_run / "photos", run)
    failed = [trial.number for trial in study.trials if trial.outcome is Outcome.FAILED]
    assert failed
    assert not any(samples_path(RunPaths(run).samples, number).exists() for number in failed)


ORDERS = {
    "doubled": [0, 1, 2, 2],
    "swapped": [0, 2, 1, 3],
    "FP32 last": [1, 2, 3, 0],
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
def test_a_journal_of_doubled_or_swapped_numbers_is_refused_by_all_who_read_it(run, order):
    path = RunPaths(run).journal_path
    header, *lines = path.read_text().splitlines(keepends=True)
    path.write_text(header + "".join(lines[place] for place in order))
    with pytest.raises(RunFolderError, match=r"line \d of .* trial \d stands after trial \d"):
        read_study(run)
    with pytest.raises(RunFolderError, match="stands where trial"), RunFolder.open(run, read_run_spec(run)):
        pass


def test_a_negative_number_is_refused(run):
    path = RunPaths(run).journal_path
    path.write_text(path.read_text().replace('"number":2', '"number":-2'))
    with pytest.raises(RunFolderError, match=r"line 4 .*whole number from 0"):
        read_study(run)

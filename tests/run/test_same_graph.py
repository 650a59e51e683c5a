"""Maps that lower to one graph are scored once: in sweeps, after damage, on workers."""

from dataclasses import replace

import onnx
import pytest
from lowered_models import residual_generator
from tiny_photos import write_photos

from qsens.api import score_maps
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import spec_from_values
from qsens.core.trial import Outcome, Study
from qsens.engines.onnxruntime import OnnxRuntimeBackend
from qsens.report.page_tables import trial_table
from qsens.report.tables import trials_table
from qsens.run.evidence import ScoredGraphs, evidence_path, load_evidence, samples_path
from qsens.run.folder import read_study
from qsens.run.journal import read_journal
from qsens.run.loop import StoppedError
from qsens.run.open import open_sweep
from qsens.run.paths import RunPaths
from qsens.testing import example_layers, example_trial

INT8 = PrecisionMap(Precision.INT8)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("same-graph")
    onnx.save(residual_generator(), folder / "generator.onnx")
    return folder / "generator.onnx", write_photos(folder / "photos")


@pytest.fixture
def built(monkeypatch):
    """The maps of which an engine was built."""
    found = []
    build = OnnxRuntimeBackend.build

    def counted(self, lowered):
        found.append(lowered.requested)
        return build(self, lowered)

    monkeypatch.setattr(OnnxRuntimeBackend, "build", counted)
    return found


@pytest.fixture
def sweep(files):
    """An optimised session runs FP16 layers in FP32: FP16 everywhere is FP32 everywhere."""

    def run(out, *, stop_after=None, **values):
        model, photos = files
        shared = {
            "checkpoint": str(model),
            "calibration": str(photos),
            "metrics": ["psnr"],
            "calibration_samples": 2,
            "evaluation_samples": 4,
            "batch_size": 2,
            "threads": 1,
            "range_method": "minmax",
            "strategy": "one-at-a-time",
            "backend_options": {"optimised": True},
        }

        def progress(done, total, label):
            journal = RunPaths(out).journal_path
            if stop_after is not None and len(read_journal(journal).trials) >= stop_after:
                raise KeyboardInterrupt

        spec = spec_from_values({**shared, **values}, "test")
        return score_maps(open_sweep(spec), out, progress=progress)

    return run


def test_fp16_where_there_is_none_is_fp32_and_is_not_run(tmp_path, sweep, built):
    study = sweep(tmp_path)
    fp32, fp16 = study.trials[:2]
    assert fp16.requested == PrecisionMap(Precision.FP16)
    assert fp16.requested not in built
    assert len(built) == len(study.trials) - 1
    assert study.same_as(fp16) == 0
    assert [study.same_as(trial) for trial in study.trials].count(None) == len(study.trials) - 1
    images = ("images", fp32.digest_of("images"))
    as_fp32 = replace(fp16, number=0, requested=fp32.requested, evidence=(*fp16.evidence, images))
    assert replace(as_fp32, duration_s=0) == replace(fp32, duration_s=0, yardsticks=())
    one, other = load_evidence(tmp_path / "evidence", 0), load_evidence(tmp_path / "evidence", 1)
    assert {name: value.tobytes() for name, value in one.influences.items()} == {
        name: value.tobytes() for name, value in other.influences.items()
    }
    paths = RunPaths(tmp_path)
    assert samples_path(paths.samples, 1).read_bytes() == samples_path(paths.samples, 0).read_bytes()
    assert (paths.evidence / "audit-00001.json").exists()


def test_the_journal_and_the_table_say_so(tmp_path, sweep):
    sweep(tmp_path)
    study = read_study(tmp_path)
    table = trials_table(study)
    assert table["same_as"].dropna().to_dict() == {1: 0}
    assert trial_table(study, None, {}).count("the same graph as trial 0") == 1


@pytest.mark.parametrize("damage", ["evidence", "record", "samples"])
def test_damaged_evidence_is_not_taken(tmp_path, sweep, built, damage):
    with pytest.raises(StoppedError):
        sweep(tmp_path, stop_after=1)
    paths = RunPaths(tmp_path)
    (record,) = paths.evidence.glob("graph-*.json")
    path = {
        "evidence": evidence_path(paths.evidence, 0),
        "record": record,
        "samples": samples_path(paths.samples, 0),
    }[damage]
    path.write_bytes(path.read_bytes()[:-9])
    built.clear()
    study = sweep(tmp_path)
    # FP32 without its evidence is run anew, and can be taken from then on.
    again = study.trials[0 if damage == "evidence" else 1]
    assert built[0] == again.requested
    # It is the same graph all the same, and the scores are the same.
    assert study.same_as(study.trials[1]) == 0
    assert study.trials[1].scores == study.trials[0].scores


def test_exact_maps_differ(tmp_path, sweep, built):
    study = sweep(tmp_path, backend_options={})
    assert len(built) >= len(study.trials)
    assert len({trial.graph for trial in study.trials}) == len(study.trials)
    assert all(study.same_as(trial) is None for trial in study.trials)


def test_a_trial_is_not_taken_from_itself_or_from_a_screen(tmp_path):
    graphs = ScoredGraphs(tmp_path, tmp_path)
    trial = replace(example_trial(3, INT8, example_layers(2)), graph="abc")
    evidence_path(tmp_path, 3).write_bytes(b"evidence of 3")
    trial = graphs.keep(trial)
    # Number 3 was recorded, and the run was killed before the journal had it: it is run again.
    assert graphs.take("abc", Outcome.SCORED, 3, INT8) is None
    assert graphs.take("abc", Outcome.SCREENED, 4, INT8) is None
    assert graphs.take("other", Outcome.SCORED, 4, INT8) is None
    fp16 = PrecisionMap(Precision.FP16)
    assert graphs.take("abc", Outcome.SCORED, 4, fp16) == replace(trial, number=4, requested=fp16)
    assert evidence_path(tmp_path, 4).read_bytes() == b"evidence of 3"
    assert not samples_path(tmp_path, 4).exists()


def test_a_record_is_found_by_its_name_among_many(tmp_path, monkeypatch):
    graphs = ScoredGraphs(tmp_path, tmp_path)
    for number in (3, 5):
        evidence_path(tmp_path, number).write_bytes(b"evidence")
        trial = graphs.keep(replace(example_trial(number, INT8, example_layers(2)), graph="abc"))
    assert [path.name for path in tmp_path.glob("graph-*")] == ["graph-abc-scored.json"]
    for name in ("os.scandir", "os.listdir"):
        monkeypatch.setattr(name, lambda *_: pytest.fail("it reads the folder"))
    graphs.forget(4)
    taken = graphs.take("abc", Outcome.SCORED, 4, INT8)
    assert taken == replace(trial, number=4, requested=INT8)


def test_journals_without_graphs_are_read(tmp_path):
    trial = example_trial(1, INT8, example_layers(2))
    line = trial.to_json()
    del line["graph"]
    again = type(trial).from_json(line)
    assert again == trial
    assert Study("spec", example_layers(2), (trial, replace(trial, number=2))).same_as(trial) is None


@pytest.mark.slow
def test_workers_write_the_same(tmp_path, sweep, files):
    from tiny_sweeps import score_run

    model, photos = files
    trials = {}
    for workers in (None, 2):
        out = tmp_path / str(workers)
        score_run(
            model,
            out=out,
            workers=workers,
            calibration=str(photos),
            metrics=["psnr"],
            calibration_samples=2,
            evaluation_samples=4,
            threads=1,
            strategy="one-at-a-time",
            backend_options={"optimised": True},
        )
        trials[workers] = [
            replace(trial, duration_s=0) for trial in read_journal(RunPaths(out).journal_path).trials
        ]
    assert trials[None] == trials[2]

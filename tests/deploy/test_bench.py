"""The bench itself, on engines that are made up: order, groups, what is skipped, what a stop keeps."""

import threading

import pytest
from filelock import FileLock

from qsens.core.errors import BuildError, QsensError, SpecError
from qsens.core.precision import Precision, PrecisionMap
from qsens.deploy.bench import alone, bench
from qsens.device.audit import LayerAudit
from qsens.device.bench import BenchSettings, BuiltEngine, Subject
from qsens.device.errors import DeviceError

AUDIT = (LayerAudit("a", "/a", "step a", "int8", "int8", "fp32"),)


def subject_of(label, build):
    shape = PrecisionMap(Precision.INT8)
    return Subject(label, shape.to_json(), shape.digest, build)


class Bench:
    """Made-up engines that note what happens to them."""

    def __init__(self):
        self.events = []
        self.stop_after = None
        self.runs = 0

    def engine(self, label, fails_at=None):
        def run(feeds):
            self.runs += 1
            if self.stop_after is not None and self.runs > self.stop_after:
                raise KeyboardInterrupt
            if feeds["batch"] == fails_at:
                raise DeviceError("out of memory", "smaller")
            self.events.append((label, feeds["batch"]))

        return BuiltEngine(
            run=run,
            close=lambda: self.events.append(("close", label)),
            audit=lambda: AUDIT,
            step_times_ms=lambda feeds, repeats: {"step a": 0.25},
            flavour="u8",
            runtime="made-up",
            version="1",
            size_bytes=10,
        )

    def subject(self, label, **more):
        return subject_of(label, lambda: self.engine(label, **more))


def feeds(batch):
    return {"batch": batch}


def measure(subjects, **settings):
    chosen = BenchSettings(**{"repeats": 4, "warm_up": 1, **settings})
    return bench(subjects, feeds, chosen, progress=lambda *_: None)


def test_every_map_is_measured_at_every_batch_in_order():
    work = Bench()
    result = measure([work.subject("FP32"), work.subject("INT8")], batches=(1, 4))
    assert [(entry.label, entry.batch) for entry in result.measured] == [
        ("FP32", 1), ("INT8", 1), ("FP32", 4), ("INT8", 4),
    ]  # fmt: skip
    assert result.is_complete
    assert result.runtime == {"name": "made-up", "version": "1"}
    assert all(entry.latency.runs == 4 for entry in result.measured)
    assert all(entry.peak_memory_bytes is not None for entry in result.measured)
    assert result.measured[0].mismatches == ("a",)
    assert work.events.count(("close", "FP32")) == 2  # the one that loads the runtime, too
    assert work.events.count(("close", "INT8")) == 1


def test_layers_are_timed_where_it_is_asked_for():
    assert measure([Bench().subject("FP32")]).measured[0].layers[0]["ms"] is None
    assert measure([Bench().subject("FP32")], profiles_layers=True).measured[0].layers[0]["ms"] == 0.25


def test_more_maps_than_fit_are_measured_in_groups_beside_the_first(monkeypatch):
    monkeypatch.setattr("qsens.device.bench.LARGEST_GROUP", 3)
    work = Bench()
    result = measure([work.subject(label) for label in ("FP32", "a", "b", "c")])
    assert [entry.label for entry in result.measured] == ["FP32", "a", "b", "c"]
    assert work.events.count(("close", "FP32")) == 3
    assert work.events.index(("close", "b")) < work.events.index(("c", 1))


def refuse():
    raise DeviceError("no such kernel", "")


def test_a_map_that_cannot_be_built_or_run_is_skipped_and_says_why():
    work = Bench()
    broken = subject_of("bad", refuse)
    result = measure([work.subject("FP32"), broken, work.subject("big", fails_at=4)], batches=(1, 4))
    assert [(entry.label, entry.batch) for entry in result.measured] == [("FP32", 1), ("big", 1), ("FP32", 4)]
    assert result.skipped == {"bad": "no such kernel", "big, batch 4": "out of memory"}


def test_nothing_measured_at_all_is_an_error():
    with pytest.raises(BuildError, match="no map could be measured; bad: no such kernel"):
        measure([subject_of("bad", refuse)])


def test_a_stop_keeps_the_rounds_that_are_whole_and_closes_the_engines():
    work = Bench()
    # load, first runs of both, warm-up of both, then five rounds of four calls
    work.stop_after = 1 + 2 + 2 + 5 * 4 + 1
    result = measure([work.subject("FP32"), work.subject("INT8")], repeats=100)
    assert not result.is_complete
    assert [entry.latency.runs for entry in result.measured] == [5, 5]
    assert work.events[-2:] == [("close", "FP32"), ("close", "INT8")]


def test_a_stop_before_enough_rounds_keeps_nothing():
    work = Bench()
    work.stop_after = 1 + 2 + 2 + 2 * 4
    result = measure([work.subject("FP32"), work.subject("INT8")], repeats=100)
    assert not result.is_complete
    assert result.measured == ()


def test_a_batch_that_the_graph_cannot_run_is_refused_before_anything_is_built():
    def fixed(batch):
        if batch > 1:
            raise SpecError("fixed", "")
        return {"batch": batch}

    work = Bench()
    with pytest.raises(SpecError):
        bench([work.subject("FP32")], fixed, BenchSettings(batches=(1, 2)), progress=lambda *_: None)
    assert work.events == []


def test_a_second_bench_waits_and_says_so(tmp_path):
    heard, entered = [], threading.Event()
    lock = tmp_path / "lock"

    def other():
        with alone(heard.append, lock):
            entered.set()

    with FileLock(lock, thread_local=False):
        waiting = threading.Thread(target=other, daemon=True)
        waiting.start()
        assert not entered.wait(0.2)
    assert entered.wait(10)
    waiting.join(10)
    assert "another bench" in heard[0]


def test_a_lock_that_cannot_be_taken_is_one_clear_error(tmp_path):
    with pytest.raises(QsensError, match="cannot lock"), alone(print, tmp_path):
        pass

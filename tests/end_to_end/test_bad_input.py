"""Bad input gets one message with the value, one hint, its exit code, and no traceback."""

import urllib.error
import urllib.request

import bad_data
import bad_generators
import bad_options
import pytest
from bad_case import CASES, Bench
from tiny_runs import qsens

assert {case.__module__ for case in CASES} == {
    module.__name__ for module in (bad_data, bad_generators, bad_options)
}


@pytest.fixture
def bench(here, generator, photos):
    return Bench(here, generator, photos)


def _no_network(*_, **__):
    raise urllib.error.URLError("no network in this test")


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_bad_input_gets_one_clear_message(make, bench, monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", _no_network)
    monkeypatch.setenv("TORCH_HOME", str(bench.folder / "torch"))
    bad = make(bench)
    result = qsens(*bad.arguments)
    assert result.exit_code == bad.exit_code, result.output
    message, hint = result.stderr.strip().splitlines()[-2:]
    assert message.startswith("Error: ")
    assert bad.value in message
    assert hint.startswith("Hint: ")
    assert bad.hint in hint
    assert "Traceback" not in result.output
    assert not (bench.folder / "ran.txt").exists(), "the file's code ran"
    assert not (bench.folder / "run" / "journal.jsonl").exists(), "a run began all the same"


def test_the_code_in_the_pickle_would_run(bench):
    arguments = bad_generators.torch_pickle_that_runs_code(bench).arguments
    assert qsens(*arguments, "--trust-checkpoint").exit_code == 1
    assert (bench.folder / "ran.txt").exists()

"""`qsens demo`: what it hands on to the sweep; the demos themselves are tested with their data."""

from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from qsens.cli.main import main


@pytest.fixture
def handed(monkeypatch, install):
    """Number of workers, and the spec, of every sweep that the command asks for."""
    calls = []

    def sweep_and_finish(run, *, as_json, pool):
        calls.append((None if pool is None else pool.size, run.spec))
        return SimpleNamespace(failure=None)

    monkeypatch.setattr("qsens.cli.sweep.sweep_and_finish", sweep_and_finish)
    module = (
        "class Demo:\n"
        "    def spec_values(self, folder):\n"
        "        return {'model': 'style', 'calibration': 'noise', 'seed': 3}\n"
        "    def notes(self):\n"
        "        return ('A note.',)\n"
    )
    install("tinydemo", "demos", {"tiny": "tiny_demo:Demo"}, {"tiny_demo": module})
    return calls


def demo(*arguments):
    return CliRunner().invoke(main, ["demo", "--generator", "tiny", *arguments])


def test_workers_reach_the_sweep(handed):
    assert demo("--workers", "2").exit_code == 0
    assert demo().output == "A note.\n"
    assert [(workers, spec.seed) for workers, spec in handed] == [(2, 3), (None, 3)]


def test_workers_and_a_cluster_exclude_each_other(handed):
    result = demo("--workers", "2", "--cluster", "tcp://localhost:8786")
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr
    assert handed == []

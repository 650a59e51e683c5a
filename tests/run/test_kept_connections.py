"""Connections kept in a run folder: read back, absent in older runs, not taken from other layers."""

from report_studies import style_layers

from qsens.core.files import keep_record
from qsens.run.connections import KeptConnections, connect_older_run, connections_path, read_connections

LAYERS = style_layers()[:2]
FIRST, SECOND = (layer.name for layer in LAYERS)


def test_connections_are_those_of_the_runs_layers_or_none(tmp_path):
    path = connections_path(tmp_path)
    assert read_connections(tmp_path, LAYERS) is None
    keep_record(path, KeptConnections({FIRST: (), SECOND: (FIRST,)}))
    assert read_connections(tmp_path, LAYERS) == {FIRST: (), SECOND: (FIRST,)}
    assert read_connections(tmp_path, LAYERS[:1]) is None
    keep_record(path, KeptConnections({FIRST: (), SECOND: ("gone",)}))
    assert read_connections(tmp_path, LAYERS) is None


def test_a_run_whose_generator_does_not_open_keeps_none(tmp_path):
    connect_older_run(tmp_path)
    assert not connections_path(tmp_path).exists()

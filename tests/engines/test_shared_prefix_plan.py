"""What to keep for the maps that come next."""

from lowered_models import FP16, INT8, prepared, residual_generator

from qsens.engines.lowering.tensor_graph import TensorGraph
from qsens.engines.shared_prefix import ranks_of, wanted_of

LAYERS = ("first", "middle", "inner", "up", "last")


def boundary(network, count):
    return TensorGraph.of(
        network.lower({name: INT8 if index < count else FP16 for index, name in enumerate(LAYERS)})
    )


def names_of(graph, digests):
    return {name for name in graph.producers if graph.digests[name] in digests}


def test_a_boundary_towards_the_outputs_keeps_one_cut():
    network = prepared(residual_generator())
    graphs = [boundary(network, count) for count in range(6)]
    wanted = wanted_of(graphs[3], (), graphs[4:])
    assert names_of(graphs[3], wanted[0].digests) == {"r2"}
    assert not wanted[1].digests  # the next map computes that one
    macs = {layer.name: layer.macs for layer in network.graph.layers}
    assert wanted[0].macs == macs["first"] + macs["middle"] + macs["inner"]


def test_a_boundary_towards_the_inputs_keeps_several():
    network = prepared(residual_generator())
    graphs = [boundary(network, count) for count in range(6)]
    wanted = wanted_of(graphs[5], (), [graphs[4], graphs[3], graphs[2]])
    assert all(entry.digests for entry in wanted)
    assert names_of(graphs[5], wanted[0].digests) == {"r3"}
    assert names_of(graphs[5], wanted[1].digests) == {"r2"}


def test_what_this_map_does_not_compute_is_not_promised():
    network = prepared(residual_generator())
    graphs = [boundary(network, count) for count in range(6)]
    cut = {graphs[5].digests["r2"]}
    wanted = wanted_of(graphs[4], cut, [graphs[2]])
    # Beginning at r2, the map never makes r1, which the boundary before `inner` would need.
    assert not wanted[0].digests
    assert wanted[0].macs == 0


def test_the_sooner_need_decides_the_rank():
    network = prepared(residual_generator())
    graphs = [boundary(network, count) for count in range(6)]
    wanted = wanted_of(graphs[5], (), [graphs[4], graphs[3]])
    ranks = ranks_of(wanted)
    assert {ranks[digest] for digest in wanted[0].digests} == {0}
    assert {ranks[digest] for digest in wanted[1].digests - wanted[0].digests} == {1}

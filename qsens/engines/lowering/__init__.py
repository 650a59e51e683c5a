"""Lowering: a precision map becomes an ONNX graph, in the arithmetic or the notation of one flavour.

A `LoweringPlan` (graph and options), a map and ranges come in, a `LoweredGraph` goes out, by a pure
function. `int8` defines an INT8 layer, `exact` and `qdq` write whole graphs. The main type is `LoweredGraph`.
"""

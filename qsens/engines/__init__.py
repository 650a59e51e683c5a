"""Engines of precision maps: the lowered graph of a map, built and run by a runtime, one file a runtime.

A `Graph`, its ranges and a map come in; an engine goes out that runs batches and says what each layer really
runs in. `lowering` says what INT8 and FP16 mean, for every runtime alike. The main types are `LoweredGraph`
and, in `qsens.core.interfaces`, `Backend`.
"""

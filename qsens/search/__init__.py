"""Strategies: the maps that a sweep tries next, from the layers and the trials so far.

Layers and trials come in, maps to score or to screen go out. No tensors are known here. The main type is the
contract `Strategy` in `qsens.core.interfaces`; `enumerations` has the plain ones, `guided` the search.
"""

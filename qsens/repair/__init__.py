"""Repairs of INT8, made once a run: better ranges, and weight codes whose rounding errors compensate.

A calibrated plan and ranges come in, with the calibration samples; a `Repair` goes out, which gives the plan
and the ranges that all maps of the run are lowered with. The evaluation set is never looked at.
"""

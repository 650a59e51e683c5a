"""The part of qsens that runs on a device: engines, audit, latency and the bundle's own check.

A bundle carries a copy of this folder, so nothing here may import the rest of qsens, and the syntax is
Python 3.8's, which is what older Jetson systems have.
"""

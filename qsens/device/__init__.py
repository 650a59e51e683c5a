"""The part of qsens that runs on a device: engines, audit, latency, and a bundle's check of itself.

A graph or a bundle comes in; a running engine, its account of what each layer runs in, and a verdict go out.
The main types are `DeviceEngine` and `Bundle`. A bundle carries a copy of this folder, so it needs NumPy and
one runtime only, imports nothing else of qsens, and keeps to the syntax of Python 3.8, which is what older
Jetson systems have.
"""

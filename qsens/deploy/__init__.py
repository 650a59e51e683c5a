"""Bundles for devices, written and verified, and latencies of maps on this machine.

A reopened run and one of its maps come in; a folder that rebuilds and checks its own engine, or a latency
file, goes out. The main types are `ExportedBundle` and `BenchResult`.
"""

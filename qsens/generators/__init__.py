"""Built-in ways to open a generator: ONNX files, torch modules, exported programs, the style demo.

A checkpoint of somebody comes in and is read without running its code unless that is trusted; a `Generator`,
which exports an FP32 ONNX model, goes out. The main type is that contract, in `qsens.core.interfaces`.
"""

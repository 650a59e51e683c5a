"""Any FP32 ONNX model made into one form: checked, plain, batch normalisation folded, layers listed.

A model of `qsens.generators` comes in, a `Graph` with its layers in execution order goes out; every
precision map is over these layers. The main type is `Graph`.
"""

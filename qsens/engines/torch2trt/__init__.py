"""Backend `torch2trt`: implicit INT8 on TensorRT 8 and 10, for those who deploy with torch2trt.

A lowered graph of the flavour `weak` comes in, as a torch module whose calls are converted one by one; a
TensorRT engine with the asked types goes out. The main type is `Torch2TrtBackend`.
"""

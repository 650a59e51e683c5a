"""Built-in ways to open a generator: ONNX files, torch modules, exported programs, the demo style network."""

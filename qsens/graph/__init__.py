"""From a generator file to a folded FP32 graph, its layers, and the lowered graph of a precision map."""

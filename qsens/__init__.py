"""qsens: which layers of a generator survive INT8, and which must stay in FP16."""

__version__ = "0.1.0"

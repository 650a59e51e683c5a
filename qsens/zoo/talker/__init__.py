"""The talking-face generator that qsens ships, and its demo."""

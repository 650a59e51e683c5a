"""The tables and figures of Kim et al. 2023, ours beside the published values."""

"""Strategies: which precision maps to try."""

"""Calibration and evaluation sets, their manifests, and the ranges measured on them."""

"""PSNR of pictures that do not differ: a finite number in records, infinite where people read it."""

import math

PSNR = "psnr"
PSNR_CAP_DB = 100.0
"""What records hold for equal pictures, as JSON has no infinity: one pixel value in 150,000 off by one."""


def shown_value(metric: str, value: float) -> float:
    """A score as tables and figures show it: the PSNR of equal pictures is infinite.

    >>> shown_value("psnr", 100.0), shown_value("psnr", 41.5), shown_value("fid[lite0]", 100.0)
    (inf, 41.5, 100.0)
    """
    return math.inf if metric == PSNR and value >= PSNR_CAP_DB else value

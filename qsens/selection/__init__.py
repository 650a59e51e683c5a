"""Choosing a map: budgets and limits, the cheapest or the fastest map within them, reasons for each layer.

The trials of a `Study`, and measured times where there are some, come in; the chosen map with its reasons,
and `precision_map.json`, go out. No tensors are known here. The main type is `Selection`.
"""

"""Reports of runs: tables, figures and the page, from run folders alone.

The content of a run folder comes in; CSV and Parquet files, figures and `report.html` go out. Nothing is
calibrated or scored here. The main type is `RunContent`.
"""

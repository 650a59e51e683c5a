"""Several runs side by side: differences with paired intervals, figures, a page, and the gate of a CI job.

Run folders come in; tables, figures and the gate's answer go out. Scores that must not be compared are left
out with the reason. The main type is `Comparison`.
"""

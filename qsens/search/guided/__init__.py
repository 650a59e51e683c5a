"""Strategy `guided`: the most INT8 within a budget, for a fraction of the evaluations.

Layers and trials come in, the next few maps and the reasons for them go out. `steps` tells the search in its
order, `replay` repeats it from the trials, `knowledge` and `next_set` say what is known and what to try. The
main type is `Guided`.
"""

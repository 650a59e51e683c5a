"""Figures of a study, one file a figure: its data, and its drawing.

A `Study` comes in, a `NamedFigure` for each figure that has something to show goes out. The data of a figure
are plain values, which the page draws again as charts. `all_figures` lists them; `style` is shared.
"""

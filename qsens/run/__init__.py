"""One run: a spec opened, its maps tried one after the other, and the folder that holds all of it.

A `SweepSpec` comes in; a `Study` and a folder that can be resumed, read and reopened go out. Both wings meet
here: `search` proposes, `engines` and `scoring` evaluate, `loop` is the loop over them. The main type is
`RunFolder`.
"""

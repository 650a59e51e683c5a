"""qsens from Python: the functions of `qsens.__all__`, one for each thing that the command line can do.

Modules, arrays, loaders and paths come in and become a spec and a run folder for `qsens.api`; a `Run`, a map,
a bundle or numbers go out. Nothing about a run is decided here. The main type is `run.Run`.
"""

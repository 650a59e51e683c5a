"""The `qsens` command, one file a subcommand.

Flags come in and become a spec or options for `qsens.api` and the rooms below; text, JSON and an exit code
go out. Nothing about a run is decided here. The group of commands is `main.MainGroup`.
"""

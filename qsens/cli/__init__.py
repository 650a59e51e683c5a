"""The `qsens` command, one file a subcommand."""

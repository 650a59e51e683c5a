"""The command `qsens`, also as `python -m qsens`."""

import sys

from qsens.cli.process import CommandProcess


def main() -> None:
    """Run the command line of this process and end it."""
    process = CommandProcess()
    try:
        process.begin()
        # The handlers of signals are in place while this loads, most of a short command's time.
        from qsens.cli.main import run

        process.end(run(process))
    except (Exception, KeyboardInterrupt):
        # A stop in the middle of an import comes out as any exception.
        if process.stopped_by is None:
            raise
        sys.stderr.write(f"{process.words_of_stop()}\n")
        process.end(1)


if __name__ == "__main__":
    main()

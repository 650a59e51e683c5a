"""`python -m qsens`."""

from qsens.cli.main import main

if __name__ == "__main__":
    main(prog_name="qsens")

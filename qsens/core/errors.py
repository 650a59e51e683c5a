"""Errors a user can act on: a message with the value in it, a hint, and the exit code of the command line."""

import difflib
from collections.abc import Iterable


class QsensError(Exception):
    """Something the user can fix. `hint` says how; `exit_code` is what the command line returns."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class QsensWarning(UserWarning):
    """Something the user should know of a result; the command line says it in one line."""


def name_hint(given: str, known: Iterable[str], otherwise: str) -> str:
    """The known name that was probably meant, as a question; `otherwise` where none is like the given one.

    >>> name_hint("ssmi", ("psnr", "ssim"), "scored: psnr, ssim")
    "did you mean 'ssim'?"
    """
    close = difflib.get_close_matches(given, [str(name) for name in known], n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else otherwise


def install_hint(extra: str) -> str:
    """The command that installs an extra of qsens with the versions it was tested with.

    Without them pip may replace a CPU build of torch by one that brings gigabytes of CUDA libraries.
    """
    return f"pip install 'qsens[{extra}]' -c constraints.txt (a file of the checkout)"


class SpecError(QsensError):
    """An option, a spec key, a name or a pattern that cannot be used as given."""

    exit_code = 2


class PluginError(QsensError):
    """A plug-in that is installed but cannot be imported or does not keep its contract."""


class LoadError(QsensError):
    """A generator file that cannot be read, or holds a graph qsens cannot sweep."""


class DataError(QsensError):
    """Images, arrays or manifests that do not fit the generator or each other."""


class BuildError(QsensError):
    """A precision map that the backend could not build; a sweep records it and goes on."""


class ScoreError(QsensError):
    """An output that cannot be scored (NaN, infinite, wrong shape); a sweep records it and goes on."""


class RunFolderError(QsensError):
    """A run folder that is locked, belongs to another spec, or cannot be written."""


class SshError(QsensError):
    """A device that SSH does not reach, or that does not do what it was asked for."""


class BudgetError(QsensError):
    """No scored precision map meets the budget."""

    exit_code = 3


class VerificationError(QsensError):
    """An engine that does not run what was asked for."""

    exit_code = 4

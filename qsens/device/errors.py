"""The one error of the device folder, and the words for what a system refuses."""


class DeviceError(Exception):
    """An expected failure on the device: what happened with its value, and what to do.

    `exit_code` is what the bundle's script ends with: 1 for an error, 4 where a check found a mismatch.
    """

    def __init__(self, message: str, hint: str = "", exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


def reason_of(error: BaseException) -> str:
    """The words of an error for a message that already names the file.

    Of an error of the system only its words: neither its number nor its paths.

    >>> reason_of(OSError(28, "No space left on device", "/run/trials.npz"))
    'No space left on device'
    >>> reason_of(ValueError("row 3 is short"))
    'row 3 is short'
    """
    # `urllib.error.URLError` wraps the error of the socket in `reason`.
    inner = getattr(error, "reason", None)
    if isinstance(inner, OSError):
        return reason_of(inner)
    words = getattr(error, "strerror", None)
    return words or str(error)

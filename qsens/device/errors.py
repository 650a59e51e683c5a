"""The one error of the device folder."""


class DeviceError(Exception):
    """An expected failure on the device: what happened with its value, and what to do.

    `exit_code` is what the bundle's script ends with: 1 for an error, 4 where a check found a mismatch.
    """

    def __init__(self, message: str, hint: str = "", exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code

"""Errors as somebody at a Python prompt reads them: the message and the hint, not the way through qsens."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from qsens.core.errors import QsensError
from qsens.core.plugins import failure_in_plugin

Given = ParamSpec("Given")
Result = TypeVar("Result")


def plain_errors(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """The same function; its errors name the caller's own lines alone, and end with their hint."""

    @wraps(function)
    def call(*arguments: Given.args, **named: Given.kwargs) -> Result:
        try:
            return function(*arguments, **named)
        except QsensError as error:
            failure = error
        except Exception as error:
            found = failure_in_plugin(error)
            if found is None:
                raise
            failure = found
        if failure.hint:
            failure.add_note(f"Hint: {failure.hint}")
        raise failure.with_traceback(None) from None

    return call

"""What a sensor does while the database is away: it waits, and says so in one line."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import dagster as dg

from lifecycle.errors import UnreachableError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def waits_while_away(look: Callable[Parameters, Result]) -> Callable[Parameters, Result | dg.SkipReason]:
    """For the body of a sensor: skip while the database cannot be reached. The cursor stays where it is."""

    @wraps(look)
    def waiting(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result | dg.SkipReason:
        try:
            return look(*args, **kwargs)
        except UnreachableError as error:
            return dg.SkipReason(str(error))

    return waiting

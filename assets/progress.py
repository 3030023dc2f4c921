"""Progress of long work in the log of a run."""

from collections.abc import Callable
from typing import Final

import dagster as dg

LOG_STEP: Final = 0.1


def log_progress(context: dg.OpExecutionContext | dg.AssetExecutionContext) -> Callable[[str, float], None]:
    """A progress callback that writes a line for each new message and each tenth of the work."""
    last = ("", 0.0)

    def progress(message: str, fraction: float) -> None:
        nonlocal last
        if message != last[0] or fraction - last[1] >= LOG_STEP:
            last = (message, fraction)
            context.log.info(f"{message} ({fraction:.0%})")

    return progress

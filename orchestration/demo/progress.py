"""Show work as it goes on: one line per finished step, and a moving line on a terminal."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dagster as dg
from rich.console import Console
from rich.markup import escape

Step = Callable[[str], None]


@contextmanager
def step(console: Console, title: str) -> Iterator[Step]:
    """Name a step, let it say where it is, and print how long it took."""
    started = time.perf_counter()
    with console.status(escape(title)) as status:
        yield lambda text: status.update(f"{escape(title)}: {escape(text)}")
    seconds = time.perf_counter() - started
    console.print(f"[green]done[/]  {escape(title)} [dim]({seconds:.1f} s)[/]", highlight=False)


class _StepHandler(logging.Handler):
    def __init__(self, progress: Step) -> None:
        super().__init__(logging.INFO)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        meta = getattr(record, "dagster_meta", {})
        if meta.get("dagster_event") is None:
            place = meta.get("step_key") or meta.get("job_name") or ""
            self._progress(f"{place} {meta.get('orig_message') or record.getMessage()}")


def progress_logger(progress: Step) -> dg.LoggerDefinition:
    """A run's logger that hands the lines of its steps to `progress` and keeps Dagster's own events quiet."""

    @dg.logger
    def step_lines(_: dg.InitLoggerContext) -> logging.Logger:
        target = logging.Logger("lifecycle.demo", logging.INFO)
        target.addHandler(_StepHandler(progress))
        return target

    return step_lines

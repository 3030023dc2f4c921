"""Measurements as tables for people and as JSON for programs."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

MARKS: Final = {True: "[green]holds[/]", False: "[red]missed[/]", None: "[yellow]not measured[/]"}


class Report:
    """Tables and lines on standard output, progress on standard error."""

    def __init__(self) -> None:
        # Redirected output has no width of its own; a folded table is hard to read.
        self._out = Console(width=None if sys.stdout.isatty() else 200)
        self._started = time.monotonic()
        self._progress = Console(stderr=True, highlight=False)

    def step(self, message: str) -> None:
        """Say what begins now."""
        self._progress.print(f"[dim]{time.monotonic() - self._started:6.1f} s[/]  {message}")

    def table(self, title: str, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
        """Print one table; every column but the first is of numbers or short words."""
        table = Table(title=title, title_justify="left", title_style="bold")
        for position, column in enumerate(columns):
            table.add_column(column, justify="right" if position else "left", no_wrap=position == 0)
        for line in lines:
            table.add_row(*line)
        self._out.print(table)

    def line(self, text: str) -> None:
        """Print one line."""
        self._out.print(text)

    def aim(self, text: str, holds: bool | None) -> None:
        """Print an aim and whether this run met it; None: it was not measured."""
        self._out.print(f"aim: {text}: {MARKS[holds]}")


def milliseconds(figure: float) -> str:
    """`81 ms`, or seconds from ten seconds on."""
    return f"{figure:,.0f} ms" if figure < 10_000 else f"{figure / 1000:,.1f} s"


def megabytes(figure: int) -> str:
    """`1,234 MB`, decimal."""
    return f"{figure / 1e6:,.0f} MB"


def write_json(path: Path, title: str, measurements: Sequence[Any]) -> None:
    """Write the measurements (dataclasses, nested ones too) with their title."""
    content = {"title": title, "measurements": [asdict(m) if is_dataclass(m) else m for m in measurements]}  # type: ignore[arg-type]
    path.write_text(json.dumps(content, indent=2) + "\n")

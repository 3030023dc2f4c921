"""What a query over cold months returned, on a terminal."""

from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

LONGEST_SHOWN: Final = 400


def show(columns: Sequence[str], rows: Sequence[Sequence[Any]], console: Console) -> None:
    """A table, where that fits the width; else a line for each value, row by row."""
    cells = [[shown_value(value) for value in row] for row in rows]
    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(columns):
        numbers = all(isinstance(row[place], int | float) for row in rows)
        table.add_column(escape(name), justify="right" if numbers else "left", no_wrap=True)
    for row in cells:
        table.add_row(*map(escape, row))
    if table.__rich_measure__(console, console.options).maximum <= console.width:
        console.print(table)
        return
    pairs = Table(box=None, pad_edge=False, show_header=False)
    pairs.add_column(no_wrap=True, max_width=console.width // 2)
    pairs.add_column(overflow="fold")
    for number, row in enumerate(cells, 1):
        pairs.add_row(f"[bold]{number}[/]", "")
        for name, value in zip(columns, row, strict=True):
            pairs.add_row(escape(name), escape(value))
    console.print(pairs)


def shown_value(value: object) -> str:
    """A value on one line, which does nothing to a terminal; a long one is cut."""
    if value is None:
        return ""
    text = value.hex() if isinstance(value, bytes) else str(value)
    cut = text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "..."
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in cut)

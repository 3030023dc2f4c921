"""A picture of a kept view by rule: lines over its time column, otherwise how its largest figures compare.

No text and no id of a row is ever drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Final

from matplotlib.figure import Figure

from lifecycle.declarations.relations import RelationColumn

TIMES: Final = ("date", "timestamp with time zone", "timestamp without time zone")
NUMBERS: Final = ("bigint", "integer", "smallint", "numeric", "double precision", "real")
MOST_LINES: Final = 4
MOST_POINTS: Final = 400
COLOURS: Final = ("#2f6f9f", "#e08e0b", "#3c8d5a", "#8e5ea2")
# Readable on a light and on a dark page.
PAPER: Final = "#ffffff"


@dataclass(frozen=True)
class Drawing:
    """Which columns are drawn: numbers over `time`, or numbers alone."""

    time: str | None
    numbers: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return ((self.time,) if self.time else ()) + self.numbers


def drawing_of(columns: Sequence[RelationColumn]) -> Drawing | None:
    """The first column is the time of a row where it is one; None without a number to draw."""
    numbers = tuple(column.name for column in columns if column.type.split("(")[0] in NUMBERS)
    if not numbers:
        return None
    is_series = bool(columns) and columns[0].type in TIMES
    return Drawing(columns[0].name if is_series else None, numbers[: MOST_LINES if is_series else 1])


def statistics_figure(title: str, drawing: Drawing, found: Sequence[Sequence[object]]) -> Figure:
    """Lines per number over time, broken where a day or hour is missing; or the figures by rank."""
    figure = Figure(figsize=(10, 3.2), dpi=96, layout="constrained", facecolor=PAPER)
    axes = figure.add_subplot()
    if drawing.time:
        points = [row for row in found if isinstance(row[0], date)]
        step = _usual_step([row[0] for row in points])
        for place, (name, colour) in enumerate(zip(drawing.numbers, COLOURS, strict=False), 1):
            for piece in _unbroken(points, step):
                axes.plot(
                    [row[0] for row in piece],  # type: ignore[arg-type]
                    [_number(row[place]) for row in piece],
                    color=colour,
                    marker="." if len(piece) == 1 else None,
                    label=name if piece is points or piece[0] is points[0] else None,
                )
        axes.set_xlabel(f"{drawing.time} (UTC)")
    else:
        values = sorted((_number(row[0]) for row in found if row[0] is not None), reverse=True)
        axes.bar(range(1, len(values) + 1), values, width=1.0, color=COLOURS[0], label=drawing.numbers[0])
        axes.set_xlabel("rows, the largest first")
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.25)
    if found:
        axes.legend(frameon=False, fontsize=8, loc="upper left", ncols=MOST_LINES)
    return figure


def _number(value: object) -> float:
    return float(value) if value is not None else float("nan")  # type: ignore[arg-type]


def _usual_step(times: Sequence[object]) -> timedelta:
    """The smallest distance of two times: one day, one hour."""
    known = [time for time in times if isinstance(time, datetime | date)]
    return min((after - before for before, after in pairwise(known) if after > before), default=timedelta(days=1))


def _unbroken(points: Sequence[Sequence[object]], step: timedelta) -> list[list[Sequence[object]]]:
    pieces: list[list[Sequence[object]]] = []
    for point in points:
        if pieces and point[0] - pieces[-1][-1][0] <= step * 1.5:  # type: ignore[operator]
            pieces[-1].append(point)
        else:
            pieces.append([point])
    return pieces

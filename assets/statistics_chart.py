"""A picture of a kept view by rule: lines over its time column, otherwise how its largest figures compare.

No text and no id of a row is ever drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Final

from matplotlib.figure import Figure

from lifecycle.declarations.relations import RelationColumn

TIMES: Final = ("date", "timestamp with time zone", "timestamp without time zone")
NUMBERS: Final = ("bigint", "integer", "smallint", "numeric", "double precision", "real")
MOST_LINES: Final = 4
NOT_OVER: Final = "not over yet"
SHADE: Final = "#999999"
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


def statistics_figure(title: str, drawing: Drawing, found: Sequence[Sequence[object]], now: datetime) -> Figure:
    """Lines per number over time, broken where a day or hour is missing; or the figures by rank.

    A last day, hour or week that is not over at `now` is shaded: its figures will still grow.
    """
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
        if points and _moment(points[-1][0]) <= now < _moment(points[-1][0]) + step:
            last = _moment(points[-1][0])
            edges = last - step / 2, last + step / 2
            axes.axvspan(*edges, color=SHADE, alpha=0.25, linewidth=0, label=NOT_OVER)  # type: ignore[arg-type]
        axes.set_xlabel(f"{drawing.time} (UTC)", fontsize=8)
        axes.set_ylabel(drawing.numbers[0] if len(drawing.numbers) == 1 else "value", fontsize=8)
    else:
        values = sorted((_number(row[0]) for row in found if row[0] is not None), reverse=True)
        axes.bar(range(1, len(values) + 1), values, width=1.0, color=COLOURS[0], label=drawing.numbers[0])
        axes.set_xlabel("rows, the largest first", fontsize=8)
        axes.set_ylabel(drawing.numbers[0], fontsize=8)
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.25)
    if found:
        axes.legend(frameon=False, fontsize=8, loc="upper left", ncols=MOST_LINES + 1)
    return figure


def _number(value: object) -> float:
    return float(value) if value is not None else float("nan")  # type: ignore[arg-type]


def _moment(time: object) -> datetime:
    """The beginning of a day, or the moment itself; without a zone it is UTC."""
    if isinstance(time, datetime):
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    if isinstance(time, date):
        return datetime(time.year, time.month, time.day, tzinfo=UTC)
    raise TypeError(f"no time: {time!r}")


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

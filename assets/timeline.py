"""The partition timeline: one picture of what a table holds, month by month."""

from datetime import datetime, timedelta
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from assets.pictures import markdown_image
from assets.units import size_text
from lifecycle.partitions.status import PartitionInfo, PartitionStatus

PAST_RETENTION: Final = "#c0392b"
HELD: Final = "#2f6f9f"
AHEAD: Final = "#b9d3e6"
DEFAULT: Final = "#e08e0b"
NOW: Final = "#555555"
MONTH: Final = timedelta(days=30.4)
GAP: Final = timedelta(days=3)


def _unit(largest: int) -> tuple[float, str]:
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if largest >= factor:
            return factor, unit
    return 1.0, "bytes"


def _colour(partition: PartitionInfo, status: PartitionStatus, now: datetime) -> str:
    if partition.name in status.expired:
        return PAST_RETENTION
    return AHEAD if partition.lower is not None and partition.lower > now else HELD


def _label(axes: Axes, moment: datetime, height: float, text: str, colour: str, line: str) -> None:
    axes.axvline(moment, color=colour, linestyle=line, linewidth=1.2)  # type: ignore[arg-type]
    axes.text(moment + GAP, height, text, color=colour, va="top", fontsize=8)  # type: ignore[arg-type]


def _month_ticks(axes: Axes, starts: list[datetime]) -> None:
    """Name every month of a short timeline, every third one of a long one, and the year where it changes."""
    step = 1 if len(starts) <= 12 else 3
    shown = [start for start in starts if (start.month - 1) % step == 0]
    names = [
        f"{start:%b}\n{start:%Y}" if before is None or before.year != start.year else f"{start:%b}"
        for before, start in zip([None, *shown], shown, strict=False)
    ]
    axes.set_xticks([start + MONTH * 0.45 for start in shown], names)  # type: ignore[arg-type]


def _bar(axes: Axes, start: datetime, end: datetime, height: float, colour: str) -> None:
    axes.bar(start, height, width=end - start - GAP, align="edge", color=colour)  # type: ignore[arg-type]


def timeline_figure(status: PartitionStatus, now: datetime) -> Figure:
    """Bars of size per month, with today and the first month that retention keeps.

    Red bars are wholly past retention, blue ones hold the table's rows, pale ones were made ahead. The
    default partition, which should be empty, stands apart on the right, and only when it holds rows.
    """
    ranges = [partition for partition in status.partitions if not partition.is_default]
    default = next((partition for partition in status.partitions if partition.is_default), None)
    largest = max((partition.bytes for partition in status.partitions), default=0)
    factor, unit = _unit(largest)
    top = largest / factor or 1.0
    figure = Figure(figsize=(10, 3.4), dpi=96, layout="constrained")
    axes = figure.add_subplot()

    starts, ends = [now], [now]
    for partition in ranges:
        # A partition that is open on one side is drawn two months wide.
        start = partition.lower or (partition.upper or now) - 2 * MONTH
        end = partition.upper or (partition.lower or now) + 2 * MONTH
        colour = _colour(partition, status, now)
        if colour == AHEAD:
            # An empty month's bar is too low to be seen beside full ones.
            axes.axvspan(start, end - GAP, color=AHEAD, alpha=0.3, linewidth=0)  # type: ignore[arg-type]
        _bar(axes, start, end, partition.bytes / factor, colour)
        starts.append(start)
        ends.append(end)
    if status.first_kept is not None:
        _label(axes, status.first_kept, top * 1.21, f"kept since {status.first_kept:%b %Y}", PAST_RETENTION, "--")
        starts.append(status.first_kept)
    _label(axes, now, top * 1.21, "now", NOW, "-")
    _month_ticks(axes, sorted(partition.lower for partition in ranges if partition.lower))
    first, last = min(starts) - MONTH / 2, max(ends) + MONTH / 4
    if default is not None and status.default_rows:
        place, height = last + MONTH, default.bytes / factor
        _bar(axes, place, place + MONTH, height, DEFAULT)
        axes.annotate(
            f"default: {status.default_rows:,} rows",
            (place + MONTH * 0.45, height + top * 0.02),
            ha="center",
            va="bottom",
            fontsize=8,
            color=DEFAULT,
        )
        last = place + 3 * MONTH
    axes.set_xlim(first, last)  # type: ignore[arg-type]
    axes.set_ylim(0, top * 1.24)
    axes.set_xlabel("month (UTC)", fontsize=8)
    axes.set_ylabel(f"size, {unit}", fontsize=8)
    _finish(figure, axes, f"{status.table.name}: about {status.rows:,} rows, {size_text(status.bytes)}")
    return figure


def _finish(figure: Figure, axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    colours = {"held": HELD, "ahead": AHEAD, "past retention": PAST_RETENTION, "default partition": DEFAULT}
    figure.legend(
        handles=[Patch(color=colour, label=label) for label, colour in colours.items()],
        loc="outside lower right",
        ncols=len(colours),
        frameon=False,
        fontsize=8,
    )


def timeline_markdown(status: PartitionStatus, now: datetime) -> str:
    """`timeline_figure` as a Markdown image that needs no file server."""
    return markdown_image(timeline_figure(status, now), f"partition timeline of {status.table.name}")

"""Months of a table in files: what each took in the database, and what it takes there."""

from typing import Final

from matplotlib.figure import Figure

from assets.pictures import markdown_image
from assets.units import size_text
from lifecycle.cold.status import ColdStatus

BEFORE: Final = "#b9d3e6"
COLD: Final = "#2f6f9f"
MEGABYTE: Final = 1e6
QUIET: Final = "#777777"


def cold_chart_figure(status: ColdStatus) -> Figure:
    """Pale bars: bytes of a month in the database, with its indexes; blue ones: bytes of its files."""
    figure = Figure(figsize=(10, 3.0), dpi=96, layout="constrained")
    axes = figure.add_subplot()
    places = range(len(status.months))
    axes.bar(
        places, [each.hot_bytes / MEGABYTE for each in status.months], color=BEFORE, label="in the database before"
    )
    axes.bar(places, [each.bytes / MEGABYTE for each in status.months], color=COLD, width=0.5, label="in files")
    step = max(1, len(status.months) // 12)
    axes.set_xticks(list(places)[::step], [f"{each.month:%Y-%m}" for each in status.months][::step])
    axes.set_ylabel("MB")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    told = f"{status.table.relation}: {len(status.months)} months in files, {size_text(status.cold_bytes)}"
    if status.cold_bytes:
        told += f" instead of {size_text(status.bytes_before)}"
        axes.legend(fontsize=8, frameon=False)
    else:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no month in files yet", transform=axes.transAxes, ha="center", color=QUIET, fontsize=9)
    axes.set_title(f"{told}; {size_text(status.hot_bytes)} stay in the database", loc="left", fontsize=10)
    return figure


def cold_chart_markdown(status: ColdStatus) -> str:
    """The picture as Markdown with the image inside."""
    months = ", ".join(f"{each.month:%Y-%m}" for each in status.months) or "none"
    return markdown_image(cold_chart_figure(status), f"months in files: {months}")

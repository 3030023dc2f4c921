"""Requests that wait for their erasure, by state, against the time that is left."""

from collections.abc import Sequence
from typing import Final

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from assets.pictures import markdown_image
from lifecycle.erasures.status import OpenRequests

# Upper bounds of days left, exclusive; the last bar has no bound.
BARS: Final = (
    ("overdue", 0),
    ("under 7 days", 7),
    ("7 to 13 days", 14),
    ("14 to 20 days", 21),
    ("21 days or more", None),
)
COLORS: Final = {
    "queued": "#2f6f9f",
    "running": "#6aa84f",
    "erased": "#a4c98e",
    "held": "#c9c9c9",
    "failed": "#c0392b",
}


def counted(found: Sequence[OpenRequests]) -> dict[str, list[int]]:
    """Requests per state and bar."""
    counts = {state: [0] * len(BARS) for state in COLORS}
    for requests in found:
        bar = next(n for n, (_, bound) in enumerate(BARS) if bound is None or requests.days_left < bound)
        counts[requests.state][bar] += requests.requests
    return counts


def erasures_chart_markdown(found: Sequence[OpenRequests]) -> str:
    """Stacked bars as a Markdown image that needs no file server."""
    figure = Figure(figsize=(7, 2.6), dpi=96, layout="constrained")
    axes = figure.add_subplot()
    names = [name for name, _ in BARS]
    before = [0] * len(BARS)
    for state, counts in counted(found).items():
        if any(counts):
            axes.barh(names, counts, left=before, color=COLORS[state], label=state)
            before = [low + count for low, count in zip(before, counts, strict=True)]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_title(
        f"{sum(before):,} open {'request' if sum(before) == 1 else 'requests'}, by the time left",
        loc="left",
        fontsize=11,
    )
    axes.set_xlabel("requests", fontsize=8)
    axes.set_ylabel("left until the deadline", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if any(before):
        axes.legend(fontsize=8, frameon=False)
    else:
        axes.set_xlim(0, 1)
    return markdown_image(figure, "open requests")

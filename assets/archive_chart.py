"""Where rows lie, month by month: live or archived."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from assets.pictures import markdown_image

BLUE, PALE = "#2f6f9f", "#b9d3e6"


def months_markdown(name: str, months: Sequence[tuple[str, int, int]]) -> str:
    """Months as text with their counts of live and archived rows, as a Markdown image that needs no file server."""
    figure = Figure(figsize=(10, 3.2), dpi=96, layout="constrained")
    axes = figure.add_subplot()
    labels, live = [month for month, _, _ in months], [count for _, count, _ in months]
    axes.bar(labels, live, color=BLUE, label="live")
    axes.bar(labels, [count for _, _, count in months], bottom=live, color=PALE, label="archived")
    axes.legend(frameon=False, fontsize=8, ncols=2)
    axes.tick_params(labelsize=8)
    axes.set_xlabel("month (UTC)", fontsize=8)
    axes.set_ylabel("rows", fontsize=8)
    for tick in axes.get_xticklabels():
        tick.set_rotation(45)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(name, x=0.01, ha="left", fontsize=11)
    return markdown_image(figure, name)

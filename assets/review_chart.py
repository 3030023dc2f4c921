"""The weekly review's chart: eight weeks of outcomes, and the size of the database beside them."""

from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from assets.pictures import markdown_image
from assets.units import size_text
from lifecycle.review.report import delta_text
from lifecycle.review.weekly import WeeklyReview, WeekOutcomes

SUCCESS: Final = "#2f6f9f"
FAILURE: Final = "#c0392b"
STORAGE: Final = "#5d7f4e"
QUIET: Final = "#777777"
PARTIAL: Final = "#ffffff"


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)


def _nothing(axes: Axes, text: str) -> None:
    axes.set_yticks([])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=QUIET, fontsize=9)


def _week_label(week: WeekOutcomes) -> str:
    """A week in which the ledger began is a part of one, and says so."""
    return f"{week.start:%d %b}" + (
        f"\nfrom {week.known_since.astimezone(week.start.tzinfo):%d %b}" if week.known_since else ""
    )


def _draw_outcomes(axes: Axes, review: WeeklyReview) -> None:
    places = range(len(review.history))
    successes = [week.successes for week in review.history]
    failures = [week.failures for week in review.history]
    bars = axes.bar(places, successes, color=SUCCESS, label="succeeded", width=0.75)
    axes.bar(places, failures, bottom=successes, color=FAILURE, label="failed", width=0.75)
    for place, good, bad in zip(places, successes, failures, strict=True):
        if bad:
            # A few failures on top of hundreds of successes are too thin a stripe to be seen.
            axes.annotate(f"{bad:,}", (place, good + bad), ha="center", va="bottom", color=FAILURE, fontsize=8)
    for bar, week in zip(bars, review.history, strict=True):
        if week.known_since:
            bar.set(hatch="///", edgecolor=PARTIAL)
    axes.set_xticks(list(places), [_week_label(week) for week in review.history])
    axes.set_ylabel("outcomes", fontsize=8)
    axes.set_xlabel(f"week from (Monday, {review.week.start.tzinfo})", fontsize=8)
    highest = max(good + bad for good, bad in zip(successes, failures, strict=True))
    axes.set_ylim(0, highest * 1.12 or 1)
    if highest:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False, fontsize=8)
    else:
        _nothing(axes, "no outcome in eight weeks")
    _finish(axes, f"Outcomes: {successes[-1]:,} succeeded, {failures[-1]:,} failed last week")


def _draw_storage(axes: Axes, review: WeeklyReview) -> None:
    days = [day for day, _ in review.storage_totals]
    largest = max((size for _, size in review.storage_totals), default=0)
    factor, unit = next(((f, u) for f, u in ((1e9, "GB"), (1e6, "MB")) if largest >= f), (1e3, "kB"))
    sizes = [size / factor for _, size in review.storage_totals]
    axes.fill_between(days, sizes, color=STORAGE, alpha=0.15, linewidth=0)  # type: ignore[arg-type]
    # A few days make no line yet: their points must be seen.
    dot = 3 if len(days) > 14 else 7
    axes.plot(days, sizes, color=STORAGE, marker="o", markersize=dot, linewidth=1.5)  # type: ignore[arg-type]
    axes.set_ylim(0, max(sizes, default=0) * 1.15 or 1)
    if not days:
        axes.set_xticks([])
        _nothing(axes, "never measured")
    else:
        axes.set_ylabel(f"size, {unit}", fontsize=8)
        step = max(1, (days[-1] - days[0]).days // 5)
        ticks = [day for day in days if (days[-1] - day).days % step == 0]
        axes.set_xticks(ticks, [f"{day:%d %b}" for day in ticks])  # type: ignore[arg-type]
        axes.set_xlabel("day (UTC)", fontsize=8)
    compared, total = review.storage.compared_with, review.storage.total
    growth = f"{delta_text(total)} since {compared:%d %b}" if compared else "no comparison yet"
    _finish(axes, f"Storage: {size_text(total.bytes)}, {growth}")


def review_chart(review: WeeklyReview) -> Figure:
    """Stacked bars of outcomes per week, and the total size of all tables day by day."""
    figure = Figure(figsize=(11, 3.4), dpi=96, layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_outcomes(left, review)
    _draw_storage(right, review)
    return figure


def review_chart_markdown(review: WeeklyReview) -> str:
    """`review_chart` as a Markdown image that needs no file server."""
    return markdown_image(review_chart(review), "outcomes of eight weeks and storage")

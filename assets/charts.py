"""Pictures of statistics: one small chart per asset, drawn from aggregates only, never from a person's row."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from assets.pictures import markdown_image
from lifecycle.database import Connection, rows

Rows = Sequence[tuple[Any, ...]]

BLUE: Final = "#2f6f9f"
PALE: Final = "#b9d3e6"
ORANGE: Final = "#e08e0b"
RED: Final = "#c0392b"
WEEKDAYS: Final = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")

QUERIES: Final = {
    "chat_performance_metrics": """
        select hour, median_latency_ms, p95_latency_ms, p99_latency_ms
          from lifecycle.chat_performance_metrics order by hour""",
    "data_quality_metrics": """
        select metric_name, hour, metric_value, threshold from lifecycle.data_quality_history
         where hour >= now() - interval '14 days' order by metric_name, hour""",
    "daily_active_users": """
        select date, new_users, returning_users from lifecycle.daily_active_users
         where date <= current_date order by date""",
    "weekly_monthly_active_users": """
        select date, dau, wau, mau from lifecycle.weekly_monthly_active_users order by date""",
    "hourly_usage_patterns": """
        select day_of_week, hour_of_day, message_count from lifecycle.hourly_usage_patterns""",
    "feature_usage_summary": """
        select feature_name, total_uses - uses_last_30_days, uses_last_30_days from lifecycle.feature_usage_summary
         order by total_uses desc limit 12""",
    "chat_messages_archive": """
        select to_char(month, 'YYYY-MM'), sum(live)::bigint, sum(archived)::bigint
          from (select date_trunc('month', m.created_at at time zone 'UTC') as month, count(*) as live, 0 as archived
                  from public.chat_messages m where m.created_at >= now() - interval '2 years' group by 1
                 union all
                select date_trunc('month', a.created_at at time zone 'UTC'), 0, count(*)
                  from public.chat_messages_archive a where a.created_at >= now() - interval '2 years' group by 1) c
         group by month order by month""",
    "user_engagement_scores": """
        select engagement_level, count(*) from public.user_engagement_scores group by 1 order by 2 desc""",
    "chat_usage_by_account": """
        select case when total_sessions < 10 then total_sessions::text else '10+' end, count(*)
          from lifecycle.chat_usage_by_account group by 1 order by min(total_sessions)""",
}


def chart_markdown(conn: Connection, statistic: str) -> str:
    """The chart of one statistic as a Markdown image that needs no file server."""
    found = rows(conn, QUERIES[statistic])
    figure = Figure(figsize=(10, 3.2), dpi=96, layout="constrained")
    DRAWN[statistic](figure, found)
    figure.suptitle(statistic.replace("_", " "), x=0.01, ha="left", fontsize=11)
    return markdown_image(figure, statistic)


def _tidy(axes: Axes) -> Axes:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    return axes


def _lines(names: Sequence[str], colours: Sequence[str], unit: str) -> Callable[[Figure, Rows], None]:
    """First column along the x axis, one line for each further one."""

    def draw(figure: Figure, found: Rows) -> None:
        axes = _tidy(figure.add_subplot())
        for place, (name, colour) in enumerate(zip(names, colours, strict=True), start=1):
            axes.plot([row[0] for row in found], [row[place] for row in found], color=colour, label=name, linewidth=1.3)
        axes.set_ylabel(unit, fontsize=8)
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8, loc="upper left", ncols=len(names))

    return draw


def _stacked(names: Sequence[str], *, horizontal: bool = False) -> Callable[[Figure, Rows], None]:
    """First column names the bars, the next two are stacked."""

    def draw(figure: Figure, found: Rows) -> None:
        axes = _tidy(figure.add_subplot())
        labels, lower = [row[0] for row in found], [float(row[1]) for row in found]
        upper = [float(row[2]) for row in found]
        if horizontal:
            axes.barh(labels, lower, color=PALE, label=names[0])
            axes.barh(labels, upper, left=lower, color=BLUE, label=names[1])
            axes.invert_yaxis()
            axes.grid(axis="y", visible=False)
        else:
            axes.bar(labels, lower, color=BLUE, label=names[0])
            axes.bar(labels, upper, bottom=lower, color=PALE, label=names[1])
        axes.legend(frameon=False, fontsize=8, ncols=2)

    return draw


def _bars(unit: str) -> Callable[[Figure, Rows], None]:
    def draw(figure: Figure, found: Rows) -> None:
        axes = _tidy(figure.add_subplot())
        bars = axes.bar([str(row[0]) for row in found], [float(row[1]) for row in found], color=BLUE, width=0.6)
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=8, padding=2)
        axes.set_ylabel(unit, fontsize=8)

    return draw


def _heatmap(figure: Figure, found: Rows) -> None:
    grid = [[0.0] * 24 for _ in WEEKDAYS]
    for day, hour, count in found:
        grid[day][hour] = float(count)
    axes = figure.add_subplot()
    image = axes.imshow(grid, aspect="auto", cmap="Blues")
    axes.set_yticks(range(7), WEEKDAYS, fontsize=8)
    axes.set_xticks(range(0, 24, 3), [f"{hour:02d}" for hour in range(0, 24, 3)], fontsize=8)
    axes.set_xlabel("hour (UTC)", fontsize=8)
    figure.colorbar(image, ax=axes, label="messages in 30 days")


def _quality(figure: Figure, found: Rows) -> None:
    """One panel per metric: the trend of two weeks against the threshold."""
    names = sorted({row[0] for row in found})
    for place, name in enumerate(names, start=1):
        axes = _tidy(figure.add_subplot(1, len(names), place))
        trend = [row for row in found if row[0] == name]
        axes.plot([row[1] for row in trend], [float(row[2]) for row in trend], color=BLUE, linewidth=1.2)
        axes.axhline(float(trend[-1][3]), color=RED, linestyle="--", linewidth=1)
        axes.set_title(name.replace("_", " "), fontsize=8)
        axes.set_ylim(bottom=0)
        axes.set_xticks([trend[0][1], trend[-1][1]], [f"{trend[0][1]:%d %b}", f"{trend[-1][1]:%d %b}"])


DRAWN: Final[dict[str, Callable[[Figure, Rows], None]]] = {
    "chat_performance_metrics": _lines(("median", "p95", "p99"), (BLUE, ORANGE, RED), "ms"),
    "data_quality_metrics": _quality,
    "daily_active_users": _stacked(("new", "returning")),
    "weekly_monthly_active_users": _lines(("day", "7 days", "30 days"), (BLUE, ORANGE, RED), "accounts"),
    "hourly_usage_patterns": _heatmap,
    "feature_usage_summary": _stacked(("earlier", "last 30 days"), horizontal=True),
    "chat_messages_archive": _stacked(("live", "archived")),
    "user_engagement_scores": _bars("accounts"),
    "chat_usage_by_account": _bars("accounts by number of sessions"),
}

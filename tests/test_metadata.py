"""What people see in the UI beside a run: every column says what it holds, every picture can be read."""

import ast
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from assets.erasure_chart import erasures_chart_markdown
from assets.review_chart import review_chart
from assets.statistics_chart import NOT_OVER, Drawing, statistics_figure
from assets.tables import table_metadata
from lifecycle.erasures.status import OpenRequests
from lifecycle.review.weekly import WEEK, WeekOutcomes
from orchestration.definitions import defs
from tests.test_weekly_report import MONDAY, full_review

ROOT = Path(__file__).parents[1]
# Where columns are those of the application, with its own comments.
OF_THE_APPLICATION = "application.py"
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def test_a_table_of_ours_is_made_with_descriptions_only() -> None:
    for path in sorted((ROOT / "assets").glob("*.py")):
        made = [
            node
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute) and node.attr in ("TableColumn", "TableSchema", "TableRecord")
        ]
        assert not made or path.name in ("tables.py", OF_THE_APPLICATION), path.name
    (column,) = table_metadata({"rows": ("int", "how many")}, [(1,)]).schema.columns
    assert (column.name, column.type, column.description) == ("rows", "int", "how many")


def test_columns_of_our_own_tables_are_described() -> None:
    graph = defs.get_repository_def().asset_graph
    ours = {key: graph.get(key).metadata.get("dagster/column_schema") for key in graph.get_all_asset_keys()}
    described = [key for key, schema in ours.items() if key.path[0] != "public" and isinstance(schema, dg.TableSchema)]
    assert described
    for key in described:
        schema = ours[key]
        assert isinstance(schema, dg.TableSchema)
        assert [column.name for column in schema.columns if not column.description] == [], key


def test_a_week_in_which_the_ledger_began_is_marked() -> None:
    full = full_review()
    history = (
        WeekOutcomes(MONDAY - 8 * WEEK, 90, 1, known_since=MONDAY - 8 * WEEK + timedelta(days=2)),
        *full.history[1:],
    )
    for weeks, hatches in ((history, 1), (full.history, 0)):
        axes = review_chart(type(full)(**{**vars(full), "history": weeks})).axes[0]
        assert sum(bool(bar.get_hatch()) for bar in axes.patches) == hatches
        assert sum("\nfrom 30 Sep" in label.get_text() for label in axes.get_xticklabels()) == hatches


@pytest.mark.parametrize(
    ("last", "over"), [(NOON, False), (NOON - timedelta(days=1), True), (NOON + timedelta(days=1), True)]
)
def test_a_day_that_is_not_over_is_shaded(last: datetime, over: bool) -> None:
    days = [(last.date() - timedelta(days=back), 3) for back in (2, 1, 0)]
    axes = statistics_figure("visits", Drawing("day", ("visits",)), days, NOON).axes[0]
    assert (NOT_OVER in axes.get_legend_handles_labels()[1]) is not over
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("day (UTC)", "visits")


def test_axes_are_labelled() -> None:
    for axes in review_chart(full_review()).axes:
        assert axes.get_xlabel()
        assert axes.get_ylabel()
    assert "data:image/png" in erasures_chart_markdown([OpenRequests("queued", 3, 2)])

"""`lifecycle plan`: what every operation would do now, as tables or as JSON."""

import json
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from assets.units import size_text
from lifecycle.access.report import Difference, access_differences
from lifecycle.change_over import ChangeOver, plan_change_overs
from lifecycle.database import connect
from lifecycle.erasures.queue import QueueStatus, queue_status
from lifecycle.expiry.plan import RetentionPlan, plan_retention
from lifecycle.partitions.facts import DatabaseFacts, probe_database
from lifecycle.partitions.plan import ConversionPlan, RotationPlan, plan_conversion, plan_rotation
from lifecycle.policy import EVENT_TABLES
from lifecycle.views.plan import RefreshPlan, plan_refreshes

# For one transaction only: behind a pooler, a session setting would stay for the application.
READ_ONLY = "set transaction read only"
STATE_STYLE = {"ready": "green", "done": "green", "not_migrated": "yellow", "resumable": "yellow", "attached": "yellow"}
CHANGE_OVER: Final = {
    "ready": "[green]answers from a table, under the same name and columns[/]",
    "missing": "[yellow]is missing: would be made, closed to the API[/]",
}


@dataclass(frozen=True)
class Plan:
    """The database, and what conversion, rotation, migration, refresh and retention would do to each table and view;
    who may see more or less than is declared; how the queue of deletion requests stands."""

    database: DatabaseFacts
    conversions: tuple[ConversionPlan, ...]
    rotations: tuple[RotationPlan, ...]
    change_overs: tuple[ChangeOver, ...]
    refreshes: tuple[RefreshPlan, ...]
    retention: tuple[RetentionPlan, ...]
    access: tuple[Difference, ...]
    deletions: QueueStatus


def collect_plan(url: str, now: datetime) -> Plan:
    """Ask the database, in a transaction that cannot write. Raises psycopg.Error and LifecycleError."""
    with connect(url, application_name="lifecycle plan") as conn:
        facts = probe_database(conn)
        with conn.transaction():
            conn.execute(READ_ONLY)
            return Plan(
                database=facts,
                conversions=tuple(plan_conversion(conn, table, now) for table in EVENT_TABLES),
                rotations=tuple(plan_rotation(conn, table, now) for table in EVENT_TABLES),
                change_overs=plan_change_overs(conn),
                refreshes=plan_refreshes(conn),
                retention=plan_retention(conn, now),
                access=access_differences(conn),
                deletions=queue_status(conn),
            )


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def plan_json(plan: Plan) -> str:
    """The plan for programs: the fields of `Plan`, sizes in bytes, times in seconds."""
    return json.dumps(asdict(plan), indent=2, ensure_ascii=False, default=_plain)


def _lines(items: tuple[str, ...], empty: str = "-") -> str:
    return escape("\n".join(items)) or empty


def _facts_table() -> Table:
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    return table


def _database_table(facts: DatabaseFacts) -> Table:
    table = _facts_table()
    table.add_row("PostgreSQL", str(facts.server_version))
    table.add_row("role", f"{escape(facts.current_user)}{' (superuser)' if facts.is_superuser else ''}")
    table.add_row(
        "connection",
        "[red]transaction pooler: use the direct connection (port 5432)[/]"
        if facts.transaction_pooler
        else "direct, or a session pooler",
    )
    table.add_row("extensions", escape(", ".join(facts.extensions)) or "-")
    missing = _lines(facts.missing_privileges, "none")
    table.add_row("missing privileges", f"[red]{missing}[/]" if facts.missing_privileges else missing)
    return table


def _conversion_table(plan: ConversionPlan) -> Table:
    table = _facts_table()
    table.add_row("state", f"[{STATE_STYLE.get(plan.state, 'red')}]{plan.state.replace('_', ' ')}[/]")
    if plan.rows:
        table.add_row("rows", f"about {plan.rows:,}")
    table.add_row("size", size_text(plan.bytes))
    if plan.months:
        table.add_row("partitions" if plan.state == "done" else "months", str(plan.months))
    if plan.dependents:
        table.add_row("read by", escape(", ".join(plan.dependents)))
    if plan.estimated_seconds:
        table.add_row("estimated time", f"{plan.estimated_seconds:,.0f} s")
    if plan.locks:
        table.add_row("locks", _lines(plan.locks))
    if plan.warnings:
        table.add_row("warnings", f"[yellow]{_lines(plan.warnings)}[/]")
    if plan.refusals:
        table.add_row("refused", f"[red]{_lines(plan.refusals)}[/]")
    table.add_row("next", escape(plan.next_step))
    return table


def _rotation_table(plans: tuple[RotationPlan, ...]) -> Table:
    table = Table()
    for heading in ("table", "would create", "would drop", "rows in the default"):
        table.add_column(heading, overflow="fold", justify="right" if heading.startswith("rows") else "left")
    for plan in plans:
        table.add_row(plan.table.qualified_name, _lines(plan.create), _lines(plan.drop), f"{plan.default_rows:,}")
    return table


def _change_over_table(change_overs: tuple[ChangeOver, ...]) -> Table:
    table = Table()
    for heading in ("view", "`lifecycle migrate`"):
        table.add_column(heading, overflow="fold")
    for change in change_overs:
        stopped = f"[red]would stop: {_lines(change.refusals)}[/]"
        table.add_row(change.name, CHANGE_OVER.get(change.state, stopped))
    return table


def _refresh_table(refreshes: tuple[RefreshPlan, ...]) -> Table:
    table = Table()
    table.add_column("what", overflow="fold")
    table.add_column("right up to, UTC", no_wrap=True)
    table.add_column("waiting", justify="right")
    table.add_column("the next refresh would", overflow="fold")
    for plan in refreshes:
        at = f"{plan.refreshed_at:%Y-%m-%d %H:%M}" if plan.refreshed_at else "never"
        would = escape(plan.would)
        table.add_row(plan.name, at, f"{plan.waiting:,}", f"[red]{would}[/]" if would.startswith("refuse") else would)
    return table


def _retention_table(plans: tuple[RetentionPlan, ...]) -> Table:
    table = Table()
    for heading in ("table", "kept", "rows past it, about", "goes with the job"):
        table.add_column(heading, overflow="fold", justify="right" if heading.startswith("rows") else "left")
    for plan in plans:
        rows = "no such table" if plan.rows is None else f"{plan.rows:,}"
        table.add_row(plan.table, plan.kept, rows, plan.job)
    return table


def _access_table(differences: tuple[Difference, ...]) -> Table:
    table = Table()
    for heading in ("object", "not as declared; `lifecycle migrate` changes it"):
        table.add_column(heading, overflow="fold")
    for difference in differences:
        table.add_row(escape(difference.object), _lines(difference.told))
    return table


def _deletions_line(status: QueueStatus) -> str:
    due = f", the next due {status.next_deadline:%Y-%m-%d %H:%M} UTC" if status.next_deadline else ""
    return f"{status.waiting:,} waiting, {status.held:,} held{due}"


def print_plan(plan: Plan, console: Console) -> None:
    """The plan for people."""
    console.print("[bold]Database[/]", _database_table(plan.database), sep="\n")
    for conversion in plan.conversions:
        title = f"[bold]Conversion of {escape(conversion.table.qualified_name)}[/]"
        console.print(title, _conversion_table(conversion), sep="\n")
    console.print("[bold]Rotation[/]", _rotation_table(plan.rotations), sep="\n")
    if plan.change_overs:
        console.print("[bold]Views of the dashboards[/]", _change_over_table(plan.change_overs), sep="\n")
    console.print("[bold]Refresh[/]", _refresh_table(plan.refreshes), sep="\n")
    console.print("[bold]Retention[/]", _retention_table(plan.retention), sep="\n")
    if plan.access:
        console.print("[bold]Who may see what[/]", _access_table(plan.access), sep="\n")
    console.print("[bold]Deletion requests[/]", _deletions_line(plan.deletions), sep="\n")
    console.print("Nothing was changed.")

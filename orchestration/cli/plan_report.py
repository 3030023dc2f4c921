"""What `lifecycle plan` prints: one screen of everything, details of one capability, or JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, is_dataclass
from datetime import date
from textwrap import shorten
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from lifecycle.expiry.plan import WAITS, RetentionPlan
from lifecycle.language import _, translatable
from lifecycle.partitions.facts import DatabaseFacts
from lifecycle.partitions.plan import NEXT_STEP, ConversionPlan, RotationPlan
from lifecycle.units import size_text
from orchestration.cli.plan_parts import Partitions, Plan, Views, lines
from orchestration.cli.plan_rows import DETAILS, listed

STATE_STYLE: Final = {
    "ready": "green",
    "done": "green",
    "not_migrated": "yellow",
    "resumable": "yellow",
    "attached": "yellow",
}
# More than these of one capability are counted, not shown; so many lines leave room for the database and the end.
MOST_LINES: Final = 4
SCREEN: Final = 35
# Objects that are named where the same happens to all.
NAMED: Final = 2
LONGEST_TOLD: Final = 200
# What a person has to do something about begins with one of these.
ALARMING: Final = (NEXT_STEP["refused"], translatable("refuse"), WAITS)
# States of a conversion.
STATES: Final = (
    translatable("missing"),
    translatable("not migrated"),
    translatable("ready"),
    translatable("resumable"),
    translatable("attached"),
    translatable("done"),
)


def _plain(found: Any) -> Any:
    if is_dataclass(found) and not isinstance(found, type):
        return asdict(found)
    return found.isoformat() if isinstance(found, date) else str(found)


def plan_json(plan: Plan) -> str:
    """The plan for programs: the fields of `Plan`, sizes in bytes, times in seconds."""
    return json.dumps(
        {"database": plan.database, "migration": plan.migration, **plan.parts},
        indent=2,
        ensure_ascii=False,
        default=_plain,
    )


def _facts_table() -> Table:
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    return table


def _database(facts: DatabaseFacts) -> str:
    pooler = "[red]" + _("a transaction pooler: use the direct connection (port 5432)") + "[/]"
    wrong = []
    if facts.missing_privileges:
        wrong.append(_("missing privileges: {privileges}").format(privileges=listed(facts.missing_privileges)))
    if facts.read_only:
        wrong.append(_("it is read-only now, and nothing below can be done until it takes writes again"))
    told = _("PostgreSQL {version}, role {role}, through {connection}").format(
        version=facts.server_version,
        role=escape(facts.current_user) + (_(" (superuser)") if facts.is_superuser else ""),
        connection=pooler if facts.transaction_pooler else _("a direct connection or a session pooler"),
    )
    return _("; ").join([told, *(f"[red]{each}[/]" for each in wrong)])


def _grouped(part: Any) -> list[tuple[str, str]]:
    """What would happen, and to which objects, those to which the same happens together."""
    objects: dict[str, list[str]] = {}
    for name, would in lines(part):
        objects.setdefault(would, []).append(name)
    return [(_names(names), would) for would, names in objects.items()]


def _names(names: Sequence[str]) -> str:
    rest = len(names) - NAMED
    if rest < 2:
        return ", ".join(filter(None, names))
    return _("{names} and {count} more").format(names=", ".join(names[:NAMED]), count=rest)


def _overview(plan: Plan, most: int) -> Table:
    """A line or two for each thing, at most so many things of a capability."""
    alarming = tuple(map(_, ALARMING))
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    changes = [("", _(change)) for change in plan.migration]
    parts = {"migrating": changes} if changes else {}
    parts |= {name: _grouped(part) for name, part in plan.parts.items()}
    for capability, found in parts.items():
        for place, (name, would) in enumerate(found[:most]):
            style = "red" if would.startswith(alarming) else ""
            told = shorten(f"{name}: {would}" if name else would, LONGEST_TOLD, placeholder=" ...")
            table.add_row(
                "" if place else f"[bold]{capability}[/]", f"[{style}]{escape(told)}[/]" if style else escape(told)
            )
        if len(found) > most:
            count = len(found) - most
            told = (
                _("{count} more: see `lifecycle plan {capability}`") if capability in plan.parts else _("{count} more")
            )
            table.add_row("", told.format(count=count, capability=capability))
        if not found:
            table.add_row(f"[bold]{capability}[/]", "[dim]" + _("nothing") + "[/]")
    return table


def _on_one_screen(plan: Plan, console: Console) -> Table:
    """As much of it as fits; one thing of each capability at least."""
    tables = (_overview(plan, most) for most in range(MOST_LINES, 0, -1))
    return next((table for table in tables if len(console.render_lines(table)) <= SCREEN), _overview(plan, 1))


def _conversion_table(plan: ConversionPlan) -> Table:
    table = _facts_table()
    table.add_row(_("state"), f"[{STATE_STYLE.get(plan.state, 'red')}]{_(plan.state.replace('_', ' '))}[/]")
    if plan.rows:
        table.add_row(_("rows"), _("about {count:,}").format(count=plan.rows))
    table.add_row(_("size"), size_text(plan.bytes))
    if plan.bytes_needed:
        table.add_row(_("free disk needed"), size_text(plan.bytes_needed))
    if plan.months:
        table.add_row(_("partitions") if plan.state == "done" else _("months"), str(plan.months))
    if plan.dependents:
        table.add_row(_("read by"), escape(", ".join(plan.dependents)))
    if plan.estimated_seconds:
        table.add_row(_("estimated time"), f"{plan.estimated_seconds:,.0f} s")
    if plan.locks:
        table.add_row(_("locks"), listed(plan.locks))
    if plan.warnings:
        table.add_row(_("warnings"), f"[yellow]{listed(plan.warnings)}[/]")
    if plan.refusals:
        table.add_row(_("refused"), f"[red]{listed(plan.refusals)}[/]")
    table.add_row(_("next"), escape(_(plan.next_step)))
    return table


def _rotation_table(plans: Sequence[RotationPlan]) -> Table:
    table = Table()
    for heading in (_("table"), _("would create"), _("would drop")):
        table.add_column(heading, overflow="fold")
    table.add_column(_("rows in the default"), overflow="fold", justify="right")
    for plan in plans:
        drop = listed(plan.drop) + "".join(f"\n[red]{escape(_(held))}[/]" for held in plan.held)
        table.add_row(plan.table.qualified_name, listed(plan.create), drop, f"{plan.default_rows:,}")
    return table


def _rows_table(found: Sequence[Any]) -> Table:
    headings, row = DETAILS[type(found[0])]
    table = Table()
    for heading in headings:
        table.add_column(_(heading), overflow="fold")
    for each in found:
        table.add_row(*row(each))
    return table


def _details(part: Any) -> Iterator[RenderableType]:
    if isinstance(part, Partitions):
        for conversion in part.conversions:
            heading = _("Conversion of {table}").format(table=escape(conversion.table.qualified_name))
            yield f"[bold]{heading}[/]"
            yield _conversion_table(conversion)
        yield "[bold]" + _("Rotation") + "[/]"
        yield _rotation_table(part.rotations)
    elif isinstance(part, Views):
        yield from (_rows_table(rows) for rows in (part.kept, part.refreshes) if rows)
        for table, names in part.functions.items():
            heading = _("Functions that name {table}, and read nothing of its archive").format(table=escape(table))
            yield f"[bold]{heading}[/]"
            yield listed(names)
    elif isinstance(part, tuple) and part:
        yield _rows_table(part)
        for each in part:
            if isinstance(each, RetentionPlan) and each.changes:
                heading = _("Would answer otherwise without the old rows of {table}").format(table=escape(each.table))
                yield f"[bold]{heading}[/]"
                yield listed(each.changes)
    else:
        yield from (f"{escape(name)}: {escape(would)}" for name, would in lines(part)) if part else [_("nothing")]


def print_plan(plan: Plan, console: Console, capability: str | None = None) -> None:
    """The plan for people."""
    console.print(_database(plan.database))
    if capability is None:
        console.print(_on_one_screen(plan, console), _("Details: `lifecycle plan CAPABILITY`."), sep="\n")
    for name, part in plan.parts.items() if capability else ():
        console.print(f"[bold]{name}[/]", *_details(part), sep="\n")
    console.print(_("Nothing was changed."))

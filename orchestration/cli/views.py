"""`lifecycle views`: how kept views stand, one compared with its definition, one refreshed now."""

from datetime import timedelta
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lifecycle.language import _, translatable
from lifecycle.names import QualifiedName
from lifecycle.views.statistics import StatisticStatus
from orchestration.cli.session import command_session, command_transaction, declared_application, errors

GROUP: Final = "views"
CHANGED: Final = "changed by the application"
MINUTE, HOUR, DAY = (timedelta(minutes=1), timedelta(hours=1), timedelta(days=1))
views = typer.Typer(
    help="Kept views: how they stand; compare, refresh.\n\nWhen: when a dashboard looks old, or an alert names a view.",
    invoke_without_command=True,
)

ViewName = Annotated[str, typer.Argument(help="One view only, with or without its schema.")]


@views.callback()
def status(context: typer.Context) -> None:
    """How every kept view stands: its age, what the last refresh wrote and took, what its definition takes whole."""
    from lifecycle.archive.layout import exists
    from lifecycle.views.statistics import statistics_status

    if context.invoked_subcommand:
        return
    with command_transaction(GROUP) as conn:
        found = statistics_status(conn)
        kept = {each.name for each in found}
        missing = [name for name in declared_application().views.kept if name not in kept and exists(conn, name)]
    table = _table(_("view"), ">" + _("age"), _("by"), ">" + _("rows"), ">ms", ">" + _("whole ms"), _("state"))
    for each in found:
        table.add_row(
            shown(each.name),
            age_text(each.age),
            each.key or _("all rows"),
            number(each.rows_written),
            number(each.refresh_ms),
            number(each.definition_ms),
            state_text(each),
        )
    Console().print(table)
    if any(each.state == CHANGED for each in found):
        typer.echo(_("changed: the application replaced it; computed on every read, until `lifecycle migrate`."))
    if missing:
        told = _("Declared and not kept: {views}. `lifecycle plan views` says why.")
        typer.echo(told.format(views=_(", ").join(map(shown, missing))))


@views.command()
def compare(name: ViewName = "") -> None:
    """Compare kept views with their definitions as of one moment, and repair what differs; exit 1 if something did.

    When: when a figure is doubted; the job does it every night.
    """
    from lifecycle.views.statistics import compare_statistics, named_statistic

    with command_session(GROUP) as conn:
        found = compare_statistics(conn, named_statistic(conn, name) if name else None)
    table = _table(_("view"), _("outcome"), ">" + _("rows that differed"), ">ms")
    for each in found:
        style = "" if each.outcome == "equal" else "red"
        cells = (_short(each.name), _(each.outcome), number(each.differing), number(each.duration_ms))
        table.add_row(*cells, style=style)
    Console().print(table)
    for each in found:
        if told := each.error or NOT_KEPT.get(each.outcome):
            _tell(f"{each.name}: {_(told)}")
    if any(each.outcome != "equal" for each in found):
        raise typer.Exit(1)


@views.command()
def refresh(name: ViewName = "") -> None:
    """Bring kept views up to their definitions now, due or not; exit 1 if one could not be.

    When: when somebody should not wait for the hour.
    """
    from lifecycle.errors import LifecycleError
    from lifecycle.views.statistics import named_statistic, refresh_statistic, statistics_status

    failed = []
    with command_session(GROUP) as conn:
        table = _table(_("view"), _("refreshed by"), ">" + _("rows written"), ">ms")
        for each in [named_statistic(conn, name)] if name else [known.name for known in statistics_status(conn)]:
            try:
                done = refresh_statistic(conn, each)
            except LifecycleError as error:
                failed.append(str(error))
                table.add_row(shown(each), _("failed"), "", "", style="red")
                continue
            if told := NOT_KEPT.get(done.outcome):
                failed.append(f"{each}: {_(told)}")
            style = "red" if told else ""
            table.add_row(
                shown(each), _(OUTCOMES[done.outcome]), number(done.rows), number(done.duration_ms), style=style
            )
    Console().print(table)
    for told in failed:
        _tell(told)
    if failed:
        raise typer.Exit(1)


OUTCOMES: Final = {
    "whole": translatable("all rows"),
    "keyed": translatable("what changed"),
    "skipped": translatable("nothing changed"),
    "missing": translatable("kept no more"),
    "changed": translatable("changed"),
    "gone": translatable("gone"),
}
# What the application did to a view; `lifecycle migrate` goes by what it finds.
NOT_KEPT: Final = {
    "changed": translatable(
        "the application replaced it, and it is computed on every read; `lifecycle migrate` keeps the new one"
    ),
    "gone": translatable("the application dropped it; `lifecycle migrate` keeps it again once it is back"),
}
# What the nightly comparison says, and states of the database.
COMPARED: Final = (
    translatable("equal"),
    translatable("different"),
    translatable("failed"),
    translatable("skipped"),
    translatable("missing"),
)


def _tell(text: str) -> None:
    errors.print(text, markup=False, highlight=False, soft_wrap=True)


def state_text(status: StatisticStatus) -> str:
    """One word where all is well."""
    late = _("late")
    if status.state != "kept":
        told = _("changed") if status.state == CHANGED else _(status.state)
        return f"[red]{told}[/]"
    if status.differing:
        told = _("{count:,} differed").format(count=status.differing)
        return f"[red]{told}[/]"
    return f"[red]{late}[/]" if status.late else _("kept")


def age_text(age: timedelta | None) -> str:
    """How old figures are, in the largest unit that says something."""
    if age is None:
        return _("never")
    for unit, told in ((DAY, _("{count} d")), (HOUR, _("{count} h"))):
        if age >= 2 * unit:
            return told.format(count=age // unit)
    return _("{minutes} min").format(minutes=age // MINUTE)


def number(value: int | None) -> str:
    """With separators; nothing where nobody knows."""
    return "" if value is None else f"{value:,}"


def shown(name: QualifiedName) -> str:
    """Without the schema that everybody expects."""
    return _short(str(name))


def _short(name: str) -> str:
    return escape(name.removeprefix("public."))


def _table(*headings: str) -> Table:
    """Lean enough for 80 columns; a heading with `>` is of numbers."""
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        is_number = heading.startswith(">")
        table.add_column(
            heading.removeprefix(">"),
            justify="right" if is_number else "left",
            overflow="fold",
            no_wrap=is_number,
        )
    return table

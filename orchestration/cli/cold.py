"""`lifecycle cold`: months that left the database for files."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from lifecycle.errors import RefusedError
from lifecycle.language import _
from orchestration.cli.cold_rows import show
from orchestration.cli.session import (
    command_session,
    declared_application,
    errors_as_messages,
    require_prepared_database,
    required_cold_storage,
    required_url,
)

GROUP: Final = "cold"
cold = typer.Typer(
    help="Months that left the database for files.\n\nWhen: rows older than `cold_after` are meant.",
    no_args_is_help=True,
)
TableName = Annotated[str, typer.Option("--table", help="The event table, where several have cold months.")]
KEPT_DAYS: Final = 14
MOST_SHOWN: Final = 100


@cold.callback()
def group() -> None:
    """Months that left the database for files."""


@cold.command()
def status(table: TableName = "") -> None:
    """Print which months are in files, what they take there, and what is due to leave the database.

    When: to see what cold storage saves, or before a month is brought back.
    """
    from lifecycle.cold.cost import monthly_cost
    from lifecycle.cold.status import cold_status
    from lifecycle.cold.tables import chosen_cold_tables
    from lifecycle.units import size_text

    console = Console()
    with command_session(GROUP) as conn:
        application = declared_application()
        for each in chosen_cold_tables(application, table):
            found = cold_status(conn, each, datetime.now(UTC))
            printed = Table(title=str(each.relation), title_justify="left")
            for heading in (_("month"), _("rows"), _("files"), _("in files"), _("before")):
                printed.add_column(heading, justify="left" if heading == _("month") else "right", no_wrap=True)
            for month in found.months:
                sizes = (size_text(month.bytes), size_text(month.hot_bytes))
                printed.add_row(f"{month.month:%Y-%m}", f"{month.rows:,}", f"{month.files:,}", *sizes)
            console.print(printed)
            told = _("{hot} in the database, {cold} in files (took {before}); {due} months are due to leave.")
            totals = {"hot": found.database_bytes, "cold": found.cold_bytes, "before": found.bytes_before}
            shown = {name: size_text(size) for name, size in totals.items()}
            console.print(told.format(**shown, due=len(found.due)), highlight=False)
            if found.thawed_rows or found.to_remove:
                waits = _("{rows:,} changed rows wait to go back into files, {files:,} files to be removed.")
                console.print(waits.format(rows=found.thawed_rows, files=found.to_remove), highlight=False)
            for each_key in found.dangling:
                points = _("{rows:,} rows point by {key} to rows of {table} that are gone, and stay as they are.")
                told = points.format(rows=each_key.rows, key=each_key.foreign_key, table=each_key.referenced)
                console.print(told, highlight=False, markup=False)
            for month_back, until in found.restored:
                back = _("{month:%Y-%m} was brought back and stays until {until:%Y-%m-%d %H:%M} UTC.")
                console.print(back.format(month=month_back, until=until), highlight=False)
            if (cost := monthly_cost(application.operations.prices, found)) is not None:
                console.print(_("A month costs {cost}.").format(cost=_(cost.told)), highlight=False)


@cold.command()
def query(
    statement: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT of DuckDB's SQL.")],
    csv: Annotated[Path | None, typer.Option(help="Write the rows there instead; there must be no such file.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="The same, as Parquet.")] = None,
    memory: Annotated[str, typer.Option(help="How much memory DuckDB may use; more goes to the disk.")] = "1GB",
) -> None:
    """Ask hot and cold rows together, as of one moment, and every other table of the database.

    Tables have their names in PostgreSQL. Until the answer is there no month moves; erasures and writers go on. What
    comes out is what stands in the tables, personal data too.

    When: a question reaches further back than `cold_after`.
    """
    from lifecycle.cold.connect import connect

    targets = [path for path in (csv, parquet) if path]
    require_prepared_database(GROUP)
    with errors_as_messages():
        storage = required_cold_storage()
        for path in targets:
            if path.exists():
                raise RefusedError(_("{path} is there already; name another file.").format(path=path))
        with connect(required_url(), declared_application(), storage, memory_limit=memory) as reader:
            found = reader.query(statement)
            if csv:
                found.write_csv(csv)
            if parquet:
                found.write_parquet(parquet)
            count, columns = len(found), found.columns
            shown = [] if targets else found.rows(MOST_SHOWN)
    for path in targets:
        typer.echo(_("{count:,} rows written to {path}.").format(count=count, path=path))
    if not targets:
        show(columns, shown, Console())
        if count > len(shown):
            typer.echo(_("{shown:,} of {count:,} rows; --csv FILE writes all.").format(shown=len(shown), count=count))


@cold.command()
def restore(
    month: Annotated[str, typer.Argument(help="The month, such as 2026-07.")],
    table: TableName = "",
    days: Annotated[int, typer.Option(help="How long it stays in the database.", min=1, max=3650)] = KEPT_DAYS,
) -> None:
    """Bring a month back as a partition of its table, equal row for row; its files are removed.

    When: when old rows have to be corrected, or read by the application itself for a while.
    """
    from lifecycle.cold.restore import restore_month
    from lifecycle.cold.tables import chosen_cold_tables, chosen_month

    console = Console()
    require_prepared_database(GROUP)
    with errors_as_messages():
        storage = required_cold_storage()
        (chosen,) = chosen_cold_tables(declared_application(), table, only_one=True)
        now = datetime.now(UTC)
        with console.status("") as line:
            done = restore_month(
                required_url(),
                chosen,
                chosen_month(month),
                storage,
                keep_for=timedelta(days=days),
                now=now,
                progress=lambda message, _fraction: line.update(message),
            )
    told = _("{rows:,} rows are back in {partition}, until {until:%Y-%m-%d %H:%M} UTC.")
    until = now + timedelta(days=days)
    console.print(told.format(rows=done.rows, partition=done.partition, until=until), highlight=False)
    if done.after_actions:
        changed = _("{rows:,} of them point to rows that are gone; foreign keys were followed.")
        console.print(changed.format(rows=done.after_actions), highlight=False)
    if done.left_out:
        gone = _("Columns that the table has no more: {columns}.")
        console.print(gone.format(columns=", ".join(done.left_out)), highlight=False)


@cold.command()
def adopt() -> None:
    """Make this database the one that the files belong to, after it took another one's place.

    When: after a restore from a backup or an upgrade of the server, once nobody uses the database before. Never in a
    copy for tests: give that a store of its own.
    """
    from lifecycle.cold.home import adopt_files

    with command_session(GROUP) as conn:
        changed = adopt_files(conn)
    typer.echo(_("The files are this database's now.") if changed else _("They were this database's already."))


@cold.command()
def verify(table: TableName = "") -> None:
    """Fetch every file, count and add up its rows, and compare with the manifest; exit code 1 when one differs.

    When: after an incident at the store, or once a quarter: a file that is damaged is found before it is needed.
    """
    from lifecycle.cold.tables import chosen_cold_tables
    from lifecycle.cold.verify import verify_files

    console = Console()
    files = count = faults = 0
    differs = _("Differs:")
    with command_session(GROUP) as conn, console.status("") as line:
        storage = required_cold_storage()
        for each in chosen_cold_tables(declared_application(), table):
            for found in verify_files(conn, each, storage, lambda message, _fraction: line.update(message)):
                files += 1
                count += found.file.rows or 0
                if found.fault:
                    faults += 1
                    console.print(f"[red]{differs}[/] {found.fault}", highlight=False, soft_wrap=True)
    agree = _("{files:,} files with {rows:,} rows looked at, {faults:,} differ.")
    console.print(agree.format(files=files, rows=count, faults=faults), highlight=False)
    if faults:
        raise typer.Exit(1)

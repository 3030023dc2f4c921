"""`lifecycle consent`: what people decided, carried out without Dagster, and what still stands against it."""

import json
from dataclasses import asdict
from typing import Annotated, Final

import typer

from lifecycle.language import _
from orchestration.cli.session import cold_storage, command_session

GROUP: Final = "consent"
consent = typer.Typer(help="Carry out what people consent to or take back.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@consent.command()
def status(as_json: AsJson = False) -> None:
    """Count the rows that stand against consent now: what `apply` would clear. Changes nothing.

    When: when the check `no_rows_against_consent` fails.
    """
    from lifecycle.consent.apply import not_in_files, rows_against_consent

    with command_session(GROUP) as conn:
        found, unseen = rows_against_consent(conn), not_in_files(conn)
    if as_json:
        typer.echo(json.dumps([*map(asdict, found), *map(asdict, unseen)], indent=2))
        return
    for each in found:
        told = _("{purpose}: {count:,} rows of {table}")
        typer.echo(told.format(purpose=each.purpose, count=each.rows, table=each.table))
    for place in unseen:
        told = _("{purpose}: cold files of {table} were not looked through for {people:,} people; `apply` does it")
        typer.echo(told.format(purpose=place.purpose, table=place.table, people=place.people))
    if not found and not unseen:
        typer.echo(_("No row stands against consent."))


@consent.command()
def apply() -> None:
    """Carry out every decision, as the hourly job does.

    When: without Dagster, or when a withdrawal should not wait for the hour.
    """
    from lifecycle.consent.apply import apply_consents

    with command_session(GROUP) as conn:
        run = apply_consents(conn, storage=cold_storage())
    withdrawn = _("{purpose}: withdrawn by {people:,} people since the last run")
    granted = _("{purpose}: granted by {people:,} people since the last run")
    for told, counted in ((withdrawn, run.withdrawn), (granted, run.granted)):
        for purpose, people in counted.items():
            typer.echo(told.format(purpose=purpose, people=people))
    if run.thawed:
        typer.echo(_("{count:,} rows taken out of cold files to be looked at").format(count=run.thawed))
    for table, cleared in run.cleared.items():
        typer.echo(_("{count:,} rows of {table} cleared").format(count=cleared, table=table))
    typer.echo(_("{people:,} people have decided something.").format(people=run.people))

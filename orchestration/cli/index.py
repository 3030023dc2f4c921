"""`lifecycle index`: an index on a partitioned table, built without stopping writers."""

from typing import Annotated

import typer

from lifecycle.names import QualifiedName
from orchestration.cli.session import command_session, declared_application, errors, errors_as_messages, required_url


def index(
    table: Annotated[str, typer.Argument(help="A partitioned table: schema.name, or the name of an event table.")],
    columns: Annotated[list[str], typer.Argument(help="Columns, or expressions such as 'lower(city)'.")],
    unique: Annotated[bool, typer.Option("--unique", help="Must hold the time column.")] = False,
    where: Annotated[str | None, typer.Option(help="Condition of a partial index.")] = None,
    name: Annotated[str | None, typer.Option(help="Default: as PostgreSQL would call it.")] = None,
    using: Annotated[str, typer.Option(help="Method: btree, gin, gist, brin, hash.")] = "btree",
) -> None:
    """Build an index on a partitioned table, for which PostgreSQL has no CREATE INDEX CONCURRENTLY.

    Run it again after it was stopped: it goes on where it was.

    When: a query on an event table is slow for want of an index, or a migration of the application wants to make one.
    """
    from lifecycle.partitions.index import Wanted, build_index

    url = required_url()
    with command_session("index", migrated=False):
        pass  # of a database that is not the application's, this says so
    with errors_as_messages():
        wanted = Wanted(_named(table), tuple(columns), unique=unique, where=where, name=name, using=using)
        done = build_index(url, wanted, lambda message, _fraction: typer.echo(message))
    typer.echo(f"{done.name} is valid on every partition." if done.built else f"{done.name} was there already.")


def _named(table: str) -> QualifiedName:
    from lifecycle.partitions.tables import monthly_tables, named_table

    try:
        if "." in table:
            return QualifiedName.parse(table)
        return named_table(monthly_tables(declared_application()), table).relation
    except (KeyError, ValueError) as error:
        errors.print(str(error.args[0]), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None

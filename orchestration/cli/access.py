"""`lifecycle access`: who may see what, whether that is as declared, acceptance of what the application decided."""

import json
from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.console import Console

from lifecycle.language import _
from orchestration.cli.session import command_transaction, declared_application, errors_as_messages

GROUP: Final = "access"
access = typer.Typer(help="Who may see what.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@access.command()
def matrix(as_json: AsJson = False) -> None:
    """Show what each role may do with each object now. Changes nothing.

    When: when somebody asks who may see a table.
    """
    from lifecycle.access.declared import declared_access
    from lifecycle.access.matrix import access_matrix
    from orchestration.cli.access_report import matrix_tables

    with errors_as_messages():
        declared = declared_access(declared_application())
    with command_transaction(GROUP, migrated=False) as conn:
        found = access_matrix(conn, declared)
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in found], indent=2, ensure_ascii=False))
    else:
        Console(highlight=False).print(*matrix_tables(found), sep="\n")


@access.command()
def check(as_json: AsJson = False) -> None:
    """Compare the database with what is declared and accepted; exit 1 when anything differs. Changes nothing.

    When: when the check `access_is_as_declared` fails; in a deployment of the application.
    """
    from lifecycle.access.report import access_report
    from orchestration.cli.access_report import report_json, report_tables

    with errors_as_messages():
        application = declared_application()
    with command_transaction(GROUP) as conn:
        report = access_report(conn, application)
    if as_json:
        typer.echo(report_json(report))
    else:
        Console().print(*report_tables(report), sep="\n")
    if report.differences or report.own_exposures or report.undeclared or report.drifts:
        raise typer.Exit(1)


@access.command()
def accept() -> None:
    """Take the application's own policies and grants as they are now; from then on a change of them is told.

    When: after a change of the application's own policies that is meant, and that `lifecycle access check` told of.
    """
    from lifecycle.access.accepted import accept as accept_all
    from lifecycle.access.declared import declared_access

    with errors_as_messages():
        declared = declared_access(declared_application())
    with command_transaction(GROUP) as conn:
        taken = accept_all(conn, declared, everything=True)
    typer.echo(_("{count} policies and grants of the application accepted as they are.").format(count=taken))

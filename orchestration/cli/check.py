"""`lifecycle check` and `lifecycle schema`: the declarations against the database, its columns as last seen."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from lifecycle.language import _
from orchestration.cli.session import (
    application_folder,
    command_session,
    command_transaction,
    declared_application,
    errors_as_messages,
)


def check(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False) -> None:
    """Compare the declarations with the database; exit 1 when they differ. Changes nothing.

    When: in the application's own CI, and after each migration of the application.
    """
    from lifecycle.checking.check import check_declarations
    from orchestration.cli.check_report import print_findings

    with errors_as_messages():
        application = declared_application()
    with command_session("check", migrated=False) as conn:
        findings = check_declarations(conn, application)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
    else:
        print_findings(findings, Console(soft_wrap=True, highlight=False))
    if findings:
        raise typer.Exit(1)


def schema() -> None:
    """Write the application's tables and columns as they are now into schema.json of the declarations.

    When: after a migration of the application that changed tables or views, for Dagster's lineage and columns.
    """
    from lifecycle.checking.relations import live_relations, relations_text
    from lifecycle.declarations.loader import RELATIONS_FILE

    with errors_as_messages():
        application = declared_application()
    with command_transaction("schema", migrated=False) as conn:
        relations = live_relations(conn, application)
    file = application_folder() / RELATIONS_FILE
    with errors_as_messages():
        file.write_text(relations_text(relations), encoding="utf-8")
    typer.echo(_("{file}: {count} tables and views").format(file=file, count=len(relations)))

"""`lifecycle plan`: what each operation would do now."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from orchestration.cli.session import command_session, declared_application, errors_as_messages


def plan(
    capability: Annotated[str | None, typer.Argument(help="One capability only: the name of its folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show what each operation would do now. Changes nothing.

    When: before `lifecycle migrate`, and before a job is launched by hand; with a capability when a line is not enough.
    """
    from orchestration.cli.plan_parts import collect_plan
    from orchestration.cli.plan_report import plan_json, print_plan

    with errors_as_messages():
        application = declared_application()
    with command_session("plan", migrated=False) as conn:
        report = collect_plan(conn, application, datetime.now(UTC), capability)
    if as_json:
        typer.echo(plan_json(report))
    else:
        print_plan(report, Console(), capability)

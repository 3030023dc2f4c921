"""`lifecycle migrate` and `lifecycle undo`: our own objects in the database, made and taken back."""

from typing import Annotated, Final

import typer
from rich.markup import escape

from lifecycle.errors import RefusedError
from lifecycle.language import _
from orchestration.cli.session import declared_application, errors, errors_as_messages, required_url

# The capability whose objects go one by one, too.
VIEWS: Final = "views"


def migrate(
    sql: Annotated[bool, typer.Option("--sql", help="Print what would run, change nothing.")] = False,
    dev: Annotated[
        bool,
        typer.Option(
            "--dev",
            help="For a database that is made anew: after `supabase db reset`, on a preview branch, in continuous "
            "integration. The same schemas, tables, functions, policies, grants, archives and roles; views keep "
            "their own definitions, event tables stay plain, no change is noted. Refused where views are kept or "
            "tables partitioned.",
        ),
    ] = False,
) -> None:
    """Bring the project's own objects in the database up to date. Safe to repeat.

    When: after every update of this project and every change of the declarations; after a migration of the application
    when an alert or `lifecycle check` asks for it.
    """
    from lifecycle.migrating.migrate import upgrade
    from lifecycle.migrating.script import migration_script

    with errors_as_messages():
        application = declared_application()
        if sql and dev:
            raise RefusedError("--sql prints what a fresh database gets; --dev makes it. Give one of the two")
        if sql:
            typer.echo(migration_script(application))
            return
    url = required_url()
    with errors_as_messages(), errors.status(_("migrating")) as status:
        done = upgrade(
            url,
            application,
            dev=dev,
            progress=lambda message, fraction: status.update(
                _("migrating: {step} ({part:.0%})").format(step=escape(message), part=fraction)
            ),
        )
    unchanged = _("Nothing to change: the database is as this release and the declarations ask.")
    for change in done.changes or (unchanged,):
        typer.echo(change)


def undo(
    capability: Annotated[str, typer.Argument(help="What to take back: the name of its folder in lifecycle/.")],
    name: Annotated[str, typer.Argument(help="Of views: only this one computes its rows itself again.")] = "",
) -> None:
    """Take a capability's objects out of the database again; refuses where data would be lost.

    When: when you give a capability up, before you take its declarations away.
    """
    from lifecycle.migrating.undo import undo as take_back
    from lifecycle.views.undo import give_back_view

    url = required_url()
    with errors_as_messages():
        application = declared_application()
        if name and capability != VIEWS:
            raise RefusedError(
                _("only views are taken back one by one; {capability} goes as a whole").format(capability=capability)
            )
        done = give_back_view(url, application, name) if name else take_back(url, application, capability)
    nothing = _("Nothing to take back: the database has nothing of {capability}.").format(capability=capability)
    for change in done.changes or (nothing,):
        typer.echo(change)

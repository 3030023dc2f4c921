"""`lifecycle chat`: a past conversation on the terminal, one brought back from the archive, a run without Dagster."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lifecycle.archive.pace import PACE
from lifecycle.language import _
from orchestration.cli.session import command_session, declared_application, required_url

GROUP: Final = "chat"
chat = typer.Typer(help="Read past conversations, bring them back.", no_args_is_help=True)

GroupKey = Annotated[str, typer.Argument(help="Key of the group: the id of the conversation.")]
TableName = Annotated[str, typer.Option("--table", help="The archived table, where archive.yaml declares several.")]


@chat.command()
def read(group: GroupKey, table: TableName = "") -> None:
    """Print a whole conversation, archived rows included. What is printed is personal data.

    When: when support or a court asks for a conversation that may be in the archive.
    """
    from lifecycle.archive.chosen import chosen_archive
    from lifecycle.archive.conversation import read_group
    from lifecycle.archive.layout import read_layout

    with command_session(GROUP) as conn:
        layout = read_layout(conn, chosen_archive(declared_application(), table))
        entries = read_group(conn, layout, group)
    shown = layout.archive.declared.shown
    printed = Table()
    for heading in (_("when, UTC"), _("where"), *shown[:-1]):
        printed.add_column(heading, no_wrap=True)
    for heading in shown[-1:]:
        printed.add_column(heading, overflow="fold")
    for entry in entries:
        at = entry.at.partition(".")[0].removesuffix("+00")
        printed.add_row(
            at, _("archive") if entry.archived else _("live"), *(escape(text or "") for text in entry.shown)
        )
    Console().print(printed)


@chat.command()
def restore(
    group: Annotated[str, typer.Argument(help="Key of the group: the id of the conversation.")] = "",
    table: TableName = "",
    every: Annotated[bool, typer.Option("--all", help="Every group of the archive, one after the other.")] = False,
    days: Annotated[
        int, typer.Option(help="How long it stays out of the archive.", min=1, max=3650)
    ] = PACE.restored_for.days,
) -> None:
    """Bring a conversation's archived rows back into their table, where the application reads them.

    When: when the application has to show an archived conversation again for a while.
    """
    from lifecycle.archive.chosen import chosen_archive
    from lifecycle.archive.layout import read_layout
    from lifecycle.archive.restore import archived_groups, restore_groups

    if bool(group) == every:
        raise typer.BadParameter(_("name one group, or say --all"))
    with command_session(GROUP) as conn:
        chosen = chosen_archive(declared_application(), table)
        groups = archived_groups(conn, read_layout(conn, chosen)) if every else (group,)
        now, kept_out = datetime.now(UTC), timedelta(days=days)
        done = list(restore_groups(conn, chosen, groups, now=now, keep_for=kept_out))
    restored, left = sum(each.restored for each in done), sum(each.left for each in done)
    until = now + kept_out
    typer.echo(_("{count:,} rows are back, until {until:%Y-%m-%d %H:%M} UTC.").format(count=restored, until=until))
    if left:
        stay = _("{count:,} stay in the archive: {table} has other rows under their keys.")
        typer.echo(stay.format(count=left, table=chosen.source))


@chat.command()
def archive(
    table: TableName = "",
    accept_changed_views: Annotated[
        bool,
        typer.Option("--accept-changed-views", help="Though views, functions or policies would answer otherwise."),
    ] = False,
) -> None:
    """Move what is due now, as the nightly job does; refuses while something that reads the table would change.

    When: without Dagster, or when the archive is behind and should not wait for the night.
    """
    from lifecycle.archive.chosen import chosen_archive
    from lifecycle.archive.move import archive_rows
    from lifecycle.archive.readers import require_acceptance
    from lifecycle.database import connect

    with command_session(GROUP) as conn, connect(required_url(), application_name=f"lifecycle {GROUP}") as claims:
        application = declared_application()
        chosen = chosen_archive(application, table)
        accepted = accept_changed_views or chosen.declared.accept_changed_views
        require_acceptance(conn, chosen, accepted=accepted, managed_schemas=application.database.managed_schemas)
        run = archive_rows(conn, claims, chosen, now=datetime.now(UTC))
    moved = _("{moved:,} rows moved, {left:,} left for the next run, {remaining:,} still due.")
    typer.echo(moved.format(moved=run.moved, left=run.left, remaining=run.remaining))
    packed = _("{text:,} bytes of text take {stored:,}; {plain:,} texts stay as they are.")
    typer.echo(packed.format(text=run.text_bytes, stored=run.stored_bytes, plain=run.plain))

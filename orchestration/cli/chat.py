"""`lifecycle chat`: a past conversation on the terminal, and a session brought back from the archive."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lifecycle.policy import CHAT_ARCHIVE
from orchestration.cli.session import command_session

GROUP: Final = "chat"
chat = typer.Typer(help="Read past conversations, bring them back.", no_args_is_help=True)


@chat.command()
def read(session_id: Annotated[UUID, typer.Argument(help="Id of the chat session.")]) -> None:
    """Print a whole conversation, archived messages included. What is printed is personal data."""
    from lifecycle.archive.conversation import read_conversation

    with command_session(GROUP) as conn:
        messages = read_conversation(conn, session_id)
    table = Table()
    for heading in ("when, UTC", "who", "where"):
        table.add_column(heading, no_wrap=True)
    table.add_column("text", overflow="fold")
    for message in messages:
        at = message.at.partition(".")[0].removesuffix("+00")
        table.add_row(at, escape(message.role), "archive" if message.archived else "live", escape(message.text))
    Console().print(table)


@chat.command()
def restore(
    session_id: Annotated[UUID, typer.Argument(help="Id of the chat session.")],
    days: Annotated[
        int, typer.Option(help="How long it stays out of the archive.", min=1, max=3650)
    ] = CHAT_ARCHIVE.restored_for.days,
) -> None:
    """Bring a session's archived messages back into chat_messages, where the application reads them."""
    from lifecycle.archive.conversation import restore_session

    with command_session(GROUP) as conn:
        done = restore_session(conn, session_id, now=datetime.now(UTC), keep_for=timedelta(days=days))
    typer.echo(f"{done.restored:,} messages are back, until {done.until:%Y-%m-%d %H:%M} UTC.")
    if done.left:
        typer.echo(f"{done.left:,} stay in the archive: chat_messages has other messages under their ids.")

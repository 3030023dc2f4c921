"""`lifecycle init`: a first draft of the declarations from a database."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lifecycle.database import connect
from orchestration.cli.session import errors, errors_as_messages, required_url


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of declarations; made where there is none.")],
    seconds: Annotated[
        float,
        typer.Option("--seconds", help="Read each view once, for so long at most; 0 reads none.", min=0, max=600),
    ] = 10,
) -> None:
    """Draft the declarations from the database, or add what is new to those in DIR. Changes no database.

    When: first of all, before anything is declared; again after migrations of the application that made new objects.
    """
    from lifecycle.drafting.draft import draft, usable_folder, write
    from orchestration.cli.init_report import print_draft

    url = required_url()
    with errors_as_messages():
        usable_folder(folder)
        with connect(url, application_name="lifecycle init") as conn, _progress() as tell:
            drafted = draft(conn, folder, seconds, tell)
        written = write(folder, drafted)
    print_draft(drafted, folder, written, Console(highlight=False))


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """One line that changes at a terminal; elsewhere, a line each."""
    if not errors.is_terminal:
        yield lambda text: errors.print(text, highlight=False, soft_wrap=True)
        return
    with errors.status("") as status:
        yield lambda text: status.update(text)

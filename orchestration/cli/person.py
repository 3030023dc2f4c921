"""`lifecycle person`: what is held about one person, for that person."""

import os
import pwd
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from lifecycle.language import _
from orchestration.cli.session import cold_storage, command_session, declared_application

GROUP: Final = "person"
person = typer.Typer(help="Give people the data that is held about them.", no_args_is_help=True)


@person.callback()
def group() -> None:
    """Give people the data that is held about them."""


@person.command()
def export(
    account: Annotated[str, typer.Argument(help="Key of the person: the id of the account.")],
    to: Annotated[Path, typer.Option(help="Folder to make; there must be none of that name.")],
) -> None:
    """Write everything that is held about a person into a new folder, as JSON and CSV with a cover sheet.

    What is written is personal data. Each export is in the log, without the person's name.

    When: when somebody asks for a copy of their data.
    """
    from lifecycle.person_export.export import export_person

    with command_session(GROUP) as conn:
        done = export_person(
            conn,
            declared_application(),
            account,
            to,
            operator=pwd.getpwuid(os.getuid()).pw_name,
            now=datetime.now(UTC),
            storage=cold_storage(),
        )
    told = _("Export {number}: {rows:,} rows of {tables:,} tables written to {folder}.")
    typer.echo(told.format(number=done.number, rows=done.rows, tables=done.tables, folder=done.folder))

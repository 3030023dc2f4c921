"""The connection of a command: named for the server's list of sessions, its errors told as messages."""

from collections.abc import Iterator
from contextlib import contextmanager

from lifecycle.database import Connection, connect


@contextmanager
def command_session(group: str) -> Iterator[Connection]:
    """A connection for the commands of `lifecycle GROUP`; an error ends the command with a message."""
    from orchestration.cli import errors_as_messages, required_url

    url = required_url()
    with errors_as_messages(), connect(url, application_name=f"lifecycle {group}") as conn:
        yield conn

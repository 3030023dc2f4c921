"""What a capability brings to a migration."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from psycopg import sql

from lifecycle.database import Connection
from lifecycle.declarations.application import Application

Statements = Sequence[sql.SQL | sql.Composed]


def no_policies(_application: Application) -> Statements:
    """For a capability without policy tables."""
    return ()


def no_objects(_conn: Connection, _application: Application) -> Iterator[str]:
    """For a capability that makes nothing but tables and functions."""
    return iter(())


def no_script(_application: Application) -> str:
    """For a capability whose objects depend on what the catalog says."""
    return ""


@dataclass(frozen=True)
class Capability:
    """One part of the life cycle, named as its folder in lifecycle/ and as its branch of revisions.

    `declared` says whether an application asks for it. `files` are the SQL files in its folder with the current text of
    its database functions, in the order in which they are applied; `executors` names the roles that may execute one of
    them beside its owner, by signature as PostgreSQL prints it (`public.is_ops_role()`). `policies` are statements that
    copy the declarations into the policy tables; they run before the functions exist. `objects` makes what depends on
    the declared tables (triggers, views, archives, indexes, grants), is safe to repeat and yields a line per change.
    `undo` takes that back, so that functions and tables can go; it raises RefusedError, before it changes anything,
    where rows would be lost. `script` is what of `objects` needs no look at the catalog, as SQL to
    read; `script_in_transaction` says whether it runs in a transaction. `works_on_rows` says that `objects` gives the
    application's views or statements more to do, so that `lifecycle migrate --dev` leaves them out.
    """

    name: str
    declared: Callable[[Application], bool]
    files: tuple[str, ...] = ()
    executors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    policies: Callable[[Application], Statements] = no_policies
    objects: Callable[[Connection, Application], Iterator[str]] = no_objects
    undo: Callable[[Connection, Application], Iterator[str]] = no_objects
    script: Callable[[Application], str] = no_script
    script_in_transaction: bool = True
    works_on_rows: bool = False

    @property
    def folder(self) -> Path:
        return Path(__file__).parents[1] / self.name

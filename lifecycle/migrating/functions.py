"""Database functions: one current text each, in the SQL files beside their capability, applied when something differs.

A file is applied when its text differs from the one that was applied last, or when a function that came from it was
changed or dropped in the database. Files only create functions (`create or replace function`); what a file no longer
makes is dropped.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from lifecycle.database import Connection, rows
from lifecycle.declarations.application import Application
from lifecycle.errors import RefusedError
from lifecycle.language import Phrase
from lifecycle.migrating.capability import Capability
from lifecycle.migrating.dependents import Dependents, take_off
from lifecycle.migrating.revisions import LOCK_TIMEOUT

# What an application's own SQL files are filed under.
APPLICATION: Final = "application"

# Signature, source and who may execute it, not the printed definition: PostgreSQL prints differently from version to
# version.
FUNCTION: Final = """
select p.oid::bigint, quote_ident(n.nspname) || '.' || quote_ident(p.proname) || '(' ||
       pg_get_function_identity_arguments(p.oid) || ')' as signature,
       sha256(convert_to(concat_ws(E'\\x1f', pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), l.lanname,
              p.prosrc, p.provolatile, p.prosecdef, p.proisstrict, p.proretset, p.proparallel, p.proconfig, p.proacl),
              'UTF8')) as hash
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang
"""
MADE_JUST_NOW: Final = f"{FUNCTION} where p.xmin::text = pg_current_xact_id()::xid::text order by 2"
AS_APPLIED: Final = f"{FUNCTION} where p.oid = any (%s) order by 2"
APPLIED: Final = "select file, hash from lifecycle.sql_files"
RECORDED: Final = "select signature, file, hash from lifecycle.own_functions"
LIVE: Final = f"""
select signature, hash from ({FUNCTION}) f where signature = any (%s)
"""  # noqa: S608 - constants only
# What the application may have made: in our own schema nobody else does.
OTHERS: Final = f"""
select f.signature, p.prosrc from ({FUNCTION}) f join pg_proc p on p.oid = f.oid
 where f.signature !~ '^lifecycle[.]' and f.signature !~ '^(pg_|information_schema[.])'
   and f.signature not in (select o.signature from lifecycle.own_functions o)
"""  # noqa: S608 - constants only
SOURCES: Final = (
    f"select f.signature, p.prosrc from ({FUNCTION}) f join pg_proc p on p.oid = f.oid where f.oid = any (%s)"  # noqa: S608 - constants only
)
GRANTEES: Final = """
select distinct case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end
  from pg_proc p cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
 where p.oid = %s and a.grantee <> p.proowner
"""
ROLES: Final = "select rolname::text from pg_roles"
REMEMBER_FILE: Final = """
insert into lifecycle.sql_files as f (file, hash) values (%s, %s)
on conflict (file) do update set hash = excluded.hash, applied_at = now()
"""
REMEMBER_FUNCTION: Final = """
insert into lifecycle.own_functions as f (signature, file, hash) values (%s, %s, %s)
on conflict (signature) do update set file = excluded.file, hash = excluded.hash
"""
FORGET_FUNCTION: Final = "delete from lifecycle.own_functions where signature = %s"
# What no file makes any more belongs to no file.
MARK_LEFTOVERS: Final = "update lifecycle.own_functions set file = '' where file = %s and signature <> all (%s::text[])"
LEFTOVERS: Final = "select signature from lifecycle.own_functions where file = '' order by 1"
FORGET_FILE: Final = "delete from lifecycle.sql_files where file = %s"


OF_FOLDER: Final = """
select signature, file from lifecycle.own_functions where split_part(file, '/', 1) = %s order by 1
"""


@dataclass(frozen=True)
class SqlText:
    """A file of functions: `name` is capability/file, `executors` maps signatures or names to roles."""

    name: str
    text: str
    executors: Mapping[str, tuple[str, ...]]

    @property
    def of_the_application(self) -> bool:
        """Whether the text stands in the folder of declarations."""
        return self.name.startswith(f"{APPLICATION}/")

    def executors_of(self, signature: str) -> tuple[str, ...]:
        """The roles that may execute one of its functions, beside the owner."""
        return self.executors.get(signature, self.executors.get(signature.partition("(")[0], ()))

    @property
    def hash(self) -> bytes:
        return hashlib.sha256(repr((self.text, sorted(self.executors.items()))).encode()).digest()


def function_files(application: Application, capabilities: Sequence[Capability]) -> tuple[SqlText, ...]:
    """The files of these capabilities and the application's own, in the order in which they are applied."""
    ours = (
        SqlText(f"{capability.name}/{file}", (capability.folder / file).read_text("utf-8"), capability.executors)
        for capability in capabilities
        for file in capability.files
    )
    theirs = (
        SqlText(f"{APPLICATION}/{file.name}", file.text, _declared_executors(application, file.text))
        for file in application.functions
    )
    return (*ours, *theirs)


def _declared_executors(application: Application, text: str) -> Mapping[str, tuple[str, ...]]:
    """By name alone, which signatures begin with: a declaration is for all functions of a name."""
    return {
        str(name): routine.roles
        for name, routine in application.access.routines.items()
        if routine.granted and f"function {name}(" in text
    }


def apply_functions(conn: Connection, files: Sequence[SqlText], capabilities: Sequence[Capability]) -> Iterator[str]:
    """Apply what differs, each file in a transaction of its own; a line per function that was made or changed.

    What no file makes any more is only marked: `drop_leftovers` drops it, once nothing of ours uses it. Raises
    RefusedError when something of the application's depends on a function whose parameters changed.
    """
    live = dict(rows(conn, LIVE, ([signature for signature, _, _ in rows(conn, RECORDED)],)))
    applied = dict(rows(conn, APPLIED))
    for file in files:
        theirs = {signature: held for signature, name, held in rows(conn, RECORDED) if name == file.name}
        as_applied = all(live.get(signature) == held for signature, held in theirs.items())
        if applied.get(file.name) != file.hash or not as_applied:
            yield from _apply(conn, file, theirs, live)
    folders = {*(capability.name for capability in capabilities), APPLICATION}
    gone = [name for name in applied if name.split("/")[0] in folders and name not in {file.name for file in files}]
    with conn.transaction():
        for name in gone:
            conn.execute(MARK_LEFTOVERS, (name, []))
            conn.execute(FORGET_FILE, (name,))


def drop_leftovers(conn: Connection) -> Iterator[str]:
    """Drop functions that no file makes any more, each in a transaction of its own; a line each.

    One that something uses, such as a policy on a table that is declared no more, stays; `leftovers` names it.
    """
    for signature in leftovers(conn):
        try:
            with conn.transaction():
                conn.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'".encode())
                _drop(conn, signature)
        except RefusedError:
            continue
        yield f"function {signature}: dropped"


def leftovers(conn: Connection) -> list[str]:
    """Functions of ours that no file makes any more."""
    return [signature for (signature,) in rows(conn, LEFTOVERS)]


def drop_functions(conn: Connection, file: str, signatures: Sequence[str]) -> Iterator[str]:
    """Drop what a file made, in one transaction; a line per function."""
    with conn.transaction():
        conn.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'".encode())
        for signature in sorted(signatures):
            _drop(conn, signature)
        conn.execute(FORGET_FILE, (file,))
    yield from (f"function {signature}: dropped" for signature in sorted(signatures))


def _apply(conn: Connection, file: SqlText, recorded: Mapping[str, bytes], live: Mapping[str, bytes]) -> Iterator[str]:
    try:
        made = _run(conn, file, recorded, live)
    except psycopg.errors.InvalidFunctionDefinition:
        # Another return type or other names of parameters: `or replace` cannot, so what the file made goes first.
        made = _run(conn, file, recorded, live, drop_first=True)
    yield from (f"function {signature}: {told}" for signature, told in made)


def _run(
    conn: Connection,
    file: SqlText,
    recorded: Mapping[str, bytes],
    live: Mapping[str, bytes],
    *,
    drop_first: bool = False,
) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = []
    with conn.transaction():
        # A function may name another that a later file makes.
        conn.execute("set local check_function_bodies = off")
        conn.execute("set local search_path = ''")
        conn.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'".encode())
        moved = {signature: _take_away(conn, signature) for signature in recorded} if drop_first else {}
        others = dict(rows(conn, OTHERS)) if not file.of_the_application else {}
        conn.execute(file.text.encode())
        made = {oid: signature for oid, signature, _ in rows(conn, MADE_JUST_NOW)}
        _refuse_to_replace(conn, made, others)
        known_roles = {role for (role,) in rows(conn, ROLES)}
        for oid, signature in made.items():
            _open_to(conn, oid, signature, [r for r in file.executors_of(signature) if r in known_roles])
        names = {_name(signature) for signature in made.values()}
        for signature in sorted(set(recorded) - set(made.values()) - set(moved)):
            if _name(signature) in names:
                # Another edition of it was made: what uses it moves there.
                moved[signature] = _take_away(conn, signature)
        for signature, dependents in moved.items():
            dependents.put_back(conn, signature)
        for _, signature, held in rows(conn, AS_APPLIED, (list(made),)):
            conn.execute(REMEMBER_FUNCTION, (signature, file.name, held))
            if recorded.get(signature) != held or live.get(signature) != held:
                told.append((signature, "changed" if signature in recorded else "made"))
        told.extend((signature, "dropped") for signature in sorted(set(moved) - set(made.values())))
        conn.execute(MARK_LEFTOVERS, (file.name, list(made.values())))
        conn.execute(REMEMBER_FILE, (file.name, file.hash))
    return told


def _refuse_to_replace(conn: Connection, made: Mapping[int, str], others: Mapping[str, str]) -> None:
    """RefusedError, in a transaction that is then undone, when a function of the application gave way to one of ours.

    One with the same text is ours, in a database that was restored without our schema.
    """
    for signature, source in rows(conn, SOURCES, (list(made),)):
        if others.get(signature, source) != source:
            raise RefusedError(
                f"function {signature} exists and is not of this project, which needs the name for one of its own. "
                "Nothing of it was changed. Rename it, or drop it if it is left of an older release, then run the "
                "command again."
            )


def _name(signature: str) -> str:
    return signature.partition("(")[0]


def _take_away(conn: Connection, signature: str) -> Dependents:
    dependents = take_off(conn, signature)
    _drop(conn, signature)
    return dependents


def _open_to(conn: Connection, oid: int, signature: str, roles: Sequence[str]) -> None:
    """Default privileges may have opened a new function to everyone, PUBLIC always is: exactly these roles keep it."""
    for (grantee,) in rows(conn, GRANTEES, (oid,)):
        conn.execute(f"revoke all on routine {signature} from {grantee}".encode())
    for role in roles:
        conn.execute(sql.SQL("grant execute on routine {} to {}").format(sql.SQL(signature), sql.Identifier(role)))


def _drop(conn: Connection, signature: str) -> None:
    try:
        conn.execute(f"drop routine if exists {signature}".encode())
    except psycopg.errors.DependentObjectsStillExist as error:
        raise RefusedError(
            f"function {signature} has to go, and {error.diag.message_detail or 'something depends on it'}. "
            "Drop what depends on it, run the command again, and make it anew."
        ) from error
    conn.execute(FORGET_FUNCTION, (signature,))


def function_drift(conn: Connection) -> list[tuple[str, Phrase]]:
    """Functions of ours that are not as they were applied: (signature, what is wrong). Needs a migrated database."""
    live = dict(rows(conn, LIVE, ([signature for signature, _, _ in rows(conn, RECORDED)],)))
    other = Phrase("has another text, or other roles may execute it")
    return [
        (signature, Phrase("is gone") if signature not in live else other)
        for signature, _, held in rows(conn, RECORDED)
        if live.get(signature) != held
    ]


def functions_of(conn: Connection, folder: str) -> dict[str, list[str]]:
    """The functions that came from a folder's files, by file."""
    found: dict[str, list[str]] = {}
    for signature, file in rows(conn, OF_FOLDER, (folder,)):
        found.setdefault(file, []).append(signature)
    return found


def outdated_files(conn: Connection, files: Sequence[SqlText]) -> list[str]:
    """Files whose text is not the one that was applied last."""
    applied = dict(rows(conn, APPLIED))
    return [file.name for file in files if applied.get(file.name) != file.hash]

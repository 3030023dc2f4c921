"""What people ask about a request: what would be done, the receipts, whether their chain is whole; and the suppression
list, which is kept outside of the database and replayed after a restore.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from lifecycle.database import Connection, rows, value, without_statement_timeout
from lifecycle.erasures.cold_files import HAS_MANIFEST
from lifecycle.errors import RefusedError
from lifecycle.language import _

PLAN: Final = "select step, table_name, action, found_by, rows, reason, beyond from lifecycle.plan_erasure(%s)"
COLD_FILES: Final = "select count(*) from lifecycle.cold_files f where f.state = 'live'"
WORDS: Final = "select table_name, column_name, rows from lifecycle.plan_words_of_others(%s)"
HELD: Final = """
select hold_reason from lifecycle.deletion_jobs where request_id = (select lifecycle.carried_out_under(%s))
"""
REACH: Final = "select reach from lifecycle.erasure_policy"
NEWEST_HASH: Final = "select encode(hash, 'hex') from lifecycle.erasure_receipts order by id desc limit 1"
RECEIPTS: Final = """
select id, request_id::text, issued_at, body, encode(previous_hash, 'hex'), encode(hash, 'hex')
  from lifecycle.erasure_receipts where request_id = (select lifecycle.carried_out_under(%s)) order by id
"""
BROKEN: Final = "select id, fault from lifecycle.broken_receipts()"
STATE: Final = "select state from lifecycle.deletion_jobs where request_id = (select lifecycle.carried_out_under(%s))"
FINGERPRINT: Final = "select left(encode(sha256(inner_pad || outer_pad), 'hex'), 16) from lifecycle.erasure_secret"
SUPPRESSIONS: Final = """
select kind, encode(hash, 'hex'), erased_at, expires_at, request_id::text
  from lifecycle.suppressions where expires_at is null or expires_at > now() order by erased_at, kind, hash
"""
# The backup may hold a request that somebody held, or that had failed, when it was made: the person was erased since.
TRY_NOW: Final = """
update lifecycle.deletion_jobs j
   set state = 'queued', hold_reason = null, hold_until = null, next_attempt_at = now(), attempts = 0
 where j.state in ('held', 'failed') and not j.held_by_rule
   and exists (select from lifecycle.suppressions s
                where s.kind = 'person' and s.hash = lifecycle.keyed_hash(j.account_key))
"""
ADD: Final = """
insert into lifecycle.suppressions (kind, hash, erased_at, expires_at, request_id)
select %(kind)s, decode(%(hash)s, 'hex'), %(erased_at)s::timestamptz, %(expires_at)s::timestamptz, %(request_id)s
 where %(expires_at)s::timestamptz is null or %(expires_at)s::timestamptz > now()
on conflict (kind, hash) do nothing
"""
RETURNED: Final = "select request_id::text, table_name, rows from public.find_returned_personal_data()"
WAITING: Final = "select count(*) from lifecycle.deletion_jobs where state in ('queued', 'held')"
FORMAT: Final = "lifecycle suppression list 1"
FIELDS: Final = ("kind", "hash", "erased_at", "expires_at", "request_id")


@dataclass(frozen=True)
class PlannedStep:
    """What would be done to the rows of one table that are found by one column. `rows` is their number now; `beyond`
    says that they are the person's by the name of a session alone."""

    step: int
    table: str
    action: str
    found_by: str
    rows: int
    reason: str
    beyond: bool


@dataclass(frozen=True)
class PlannedWords:
    """A column of others' free form that would lose words of the person's, in so many rows now."""

    table: str
    column: str
    rows: int


@dataclass(frozen=True)
class Receipt:
    """The proof of one erasure, as it was written, and its place in the chain."""

    id: int
    request_id: str
    issued_at: datetime
    body: dict[str, Any]
    previous_hash: str
    hash: str


@dataclass(frozen=True)
class BrokenReceipt:
    """A receipt that was changed, or whose forerunner was; without an id, one that an erasure lacks."""

    id: int | None
    fault: str

    def __str__(self) -> str:
        told = _("receipt {number}: {fault}")
        return self.fault if self.id is None else told.format(number=self.id, fault=self.fault)


@dataclass(frozen=True)
class ReturnedData:
    """Rows of an erased person that came back; the request is queued again."""

    request_id: str
    table: str
    rows: int


@dataclass(frozen=True)
class Replayed:
    """What a suppression list did: entries read, entries that were missing, what was found, and the jobs that wait."""

    entries: int
    added: int
    returned: tuple[ReturnedData, ...]
    waiting: int


def plan_erasure(conn: Connection, request_id: str) -> tuple[PlannedStep, ...]:
    """What would be done for a request now; nothing is changed. psycopg's NoDataFound when there is no such request."""
    with without_statement_timeout(conn):
        return tuple(PlannedStep(*row) for row in rows(conn, PLAN, (request_id,)))


def plan_words(conn: Connection, request_id: str) -> tuple[PlannedWords, ...]:
    """Where others would lose words of the person's, the most rows first; nothing is changed. It takes about as long as
    a search. psycopg's NoDataFound when there is no such request."""
    with without_statement_timeout(conn):
        return tuple(PlannedWords(*row) for row in rows(conn, WORDS, (request_id,)))


def reach_told(conn: Connection, request_id: str, steps: Iterable[PlannedStep]) -> str:
    """How far a plan reaches beyond the person's own rows, and why the request is held when it is."""
    beyond, bound = sum(step.rows for step in steps if step.beyond), value(conn, REACH)
    told = _("{beyond:,} rows beyond the person's own, by names of sessions; {bound:,} may be touched unasked.")
    told = told.format(beyond=beyond, bound=bound)
    reason = value(conn, HELD, (request_id,))
    return told + " " + _("Held: {reason}.").format(reason=reason) if reason else told


def cold_told(conn: Connection) -> str:
    """That rows in cold files are not among those of a plan; "" where there are no such files."""
    files = value(conn, COLD_FILES) if value(conn, HAS_MANIFEST) else 0
    told = _("Rows in cold months are not counted here: the job looks through their {files:,} files when it runs.")
    return told.format(files=files) if files else ""


def receipts(conn: Connection, request_id: str) -> tuple[Receipt, ...]:
    """The receipts of a request, the oldest first; more than one when data came back. RefusedError without any."""
    found = tuple(Receipt(*row) for row in rows(conn, RECEIPTS, (request_id,)))
    if not found:
        state = value(conn, STATE, (request_id,))
        reason = (
            _("it is {state}").format(state=_(state))
            if state
            else _("there is no such request, or none that was enqueued")
        )
        raise RefusedError(_("no receipt for request {request}: {reason}").format(request=request_id, reason=reason))
    return found


def broken_receipts(conn: Connection) -> tuple[BrokenReceipt, ...]:
    """Receipts at which the chain breaks; none when nothing was changed or taken away."""
    return tuple(BrokenReceipt(*row) for row in rows(conn, BROKEN))


def find_returned(conn: Connection) -> tuple[ReturnedData, ...]:
    """Look for data of erased people and queue their requests again; psycopg.Error when that fails as a whole."""
    with without_statement_timeout(conn):
        return tuple(ReturnedData(*row) for row in rows(conn, RETURNED))


def export_suppressions(conn: Connection, now: datetime) -> Iterator[str]:
    """The suppression list as lines of JSON: a header, then keyed hashes. Nobody is named in it.

    The header's fingerprint says which key the hashes were made with; the key itself stays in the database.
    """
    entries = rows(conn, SUPPRESSIONS)
    yield json.dumps(
        {
            "format": FORMAT,
            "key": value(conn, FINGERPRINT),
            "exported_at": now.isoformat(),
            "entries": len(entries),
        }
    )
    for entry in entries:
        yield json.dumps(dict(zip(FIELDS, entry, strict=True)), default=datetime.isoformat)


def _read(lines: Iterable[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    try:
        header, *entries = [json.loads(line) for line in lines if line.strip()]
        if header["format"] != FORMAT or any(set(entry) != set(FIELDS) for entry in entries):
            raise ValueError("other fields")
        return {"key": header["key"], "entries": int(header["entries"])}, entries
    except (ValueError, KeyError, TypeError) as error:
        raise RefusedError(
            _(
                "this is no suppression list; expected the file that `lifecycle erasure export` writes. "
                "Nothing was added"
            )
        ) from error


def newest_receipt_hash(conn: Connection) -> str:
    """The end of the chain, to be kept where nobody of the database can change it; "" before the first receipt."""
    return str(value(conn, NEWEST_HASH) or "")


def replay_suppressions(conn: Connection, lines: Iterable[str]) -> Replayed:
    """Add what a list knows and this database does not, then look for people who came back.

    RefusedError when the list is damaged or was made with another key: its hashes would fit nobody here.
    """
    header, entries = _read(lines)
    if header["entries"] != len(entries):
        told = _("the list is cut off: {count} of {entries} entries. Nothing was added; use a whole copy")
        raise RefusedError(told.format(count=len(entries), entries=header["entries"]))
    fingerprint = value(conn, FINGERPRINT)
    if header["key"] != fingerprint:
        told = _(
            "the list was made with key {key}, this database hashes with {fingerprint}: nobody would be found. "
            "Restore lifecycle.erasure_secret from a backup of the database that wrote the list"
        )
        raise RefusedError(told.format(key=header["key"], fingerprint=fingerprint))
    with conn.transaction():
        added = sum(conn.execute(ADD.encode(), entry).rowcount for entry in entries)
        conn.execute(TRY_NOW.encode())
    returned = find_returned(conn)
    return Replayed(len(entries), added, returned, value(conn, WAITING))

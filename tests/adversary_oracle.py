"""What an erasure may change and must not leave, said a second time: in Python, over dumps of the tables, without the
SQL of the product. Words are compared in lower case."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lifecycle.database import Connection, rows
from tests.erasing import TABLE_KEYS

Row = dict[str, Any]
Dump = dict[tuple[str, str], Row]

MAP = Path(__file__).parents[1] / "application" / "personal_data.yaml"
SIGN_IN = "select 'auth.users', id::text, to_jsonb(u) from auth.users u"
# Whose row it is, by a column that names an account or a sign-in user.
OWNERS = (
    *("account_id", "author_account_id", "editor_account_id", "translator_account_id", "performed_by"),
    *("user_id", "supabase_user_id"),
)
# And by the row that it belongs to.
PARENTS = {
    ("chat_messages", "session_id"): "chat_sessions",
    ("chat_messages_archive", "session_id"): "chat_sessions",
    ("chat_session_summaries", "session_id"): "chat_sessions",
    ("generated_activities", "chat_session_id"): "chat_sessions",
    ("quiz_answers", "session_id"): "quiz_sessions",
    ("quiz_results", "session_id"): "quiz_sessions",
    ("recommendation_items", "run_id"): "recommendation_runs",
    ("vouchers", "form_submission_id"): "form_submissions",
    ("voucher_redemptions", "voucher_id"): "vouchers",
}
VISITS = ("user_behavior_events", "business_metrics_events", "search_queries")
# A browser's own names, as the application makes them.
VISIT_NAME = re.compile(r"(sess_[0-9]{13}_|[0-9]{13}-)[0-9a-z]{7,9}")


@cache
def declared(what: str) -> frozenset[tuple[str, str]]:
    """(table, column) of the map that are `redacted`, or `exempt`."""
    tables = yaml.safe_load(MAP.read_text(encoding="utf-8"))["tables"]
    return frozenset(
        (name.removeprefix("public."), column) for name, table in tables.items() for column in table.get(what, ())
    )


def dump(conn: Connection) -> Dump:
    """Every row of the application's tables and of the platform's sign-in users, by table and key."""
    selects = [
        f"select '{table}', t.{key}::text, to_jsonb(t) from public.{table} t" for table, key in rows(conn, TABLE_KEYS)
    ]
    return {(table, key): row for table, key, row in rows(conn, " union all ".join([*selects, SIGN_IN]))}


def of(found: Dump, *tables: str) -> Iterator[Row]:
    return (row for (table, _), row in found.items() if table in tables)


@dataclass
class Leaver:
    """What somebody who has asked is known by: bound words, and names of visits, `own` where nobody else was who stays.
    What was known once stays known: when rows are gone it cannot be seen again."""

    account: str
    users: set[str] = field(default_factory=set)
    emails: set[str] = field(default_factory=set)
    visits: set[str] = field(default_factory=set)
    own: set[str] = field(default_factory=set)
    things: set[tuple[str, str]] = field(default_factory=set)

    def learn(self, found: Dump, leaving: Iterable[str]) -> None:
        """Add what a dump tells; `leaving` are the accounts that have asked."""
        for row in of(found, "account_linkages", "vendor_members"):
            if row["account_id"] == self.account and row["supabase_user_id"]:
                self.users.add(row["supabase_user_id"])
        for row in of(found, "auth.users"):
            if row["id"] in self.users and row["email_confirmed_at"] and row["email"]:
                self.emails.add(row["email"].lower().strip())
        seen: dict[str, set[str]] = {}
        for row in of(found, *VISITS):
            seen.setdefault(row["session_id"] or "", set()).add(row["account_id"] or "")
        mine = {name for name, people in seen.items() if self.account in people and VISIT_NAME.fullmatch(name)}
        self.visits |= mine
        self.own |= {name for name in mine if seen[name] <= {"", *leaving}}
        while more := {key for key, row in found.items() if key not in self.things and self.owns(key[0], row)}:
            self.things |= more

    @property
    def bound(self) -> set[str]:
        return {self.account, *self.users, *self.emails}

    @property
    def words(self) -> set[str]:
        """What others' free form may lose."""
        return self.bound | self.own

    def owns(self, table: str, row: Row) -> bool:
        """Whether a row is this person's by what the map declares."""
        if (table, row.get("id")) in self.things or {row.get(column) for column in OWNERS} & {
            self.account,
            *self.users,
        }:
            return True
        if any(name == table and (parent, row[column]) in self.things for (name, column), parent in PARENTS.items()):
            return True
        match table:
            case "accounts" | "auth.users":
                return row["id"] in self.bound
            case "form_submissions":
                return row["account_id"] is None and row["email"].lower().strip() in self.emails
            case "session_replay_events":
                return row["session_id"] in self.visits
            case "audit_events":
                return row["entity_type"] != "job" and row["entity_id"].lower() in self.words
            case _ if table in VISITS:
                return row["account_id"] is None and row["session_id"] in self.own
        return False


def _whole(word: str) -> str:
    """A word as texts hold it, in URLs, too; no part of a longer one. An id is one wherever it stands."""
    if "@" not in word and "_" not in word and re.fullmatch(r"[0-9a-f-]{36}", word):
        return word
    body = re.escape(word).replace("@", "(?:@|%40)").replace(r"\+", r"(?:\+|%2b)")
    return rf"(?:(?<![a-z0-9_.+%-])|(?<=%[0-9a-f]{{2}})){body}(?![a-z0-9_]|[.-]+[a-z0-9_])"


@cache
def pattern(words: frozenset[str]) -> re.Pattern[str]:
    """Any of these words in a text."""
    return re.compile("|".join(map(_whole, sorted(words, key=len, reverse=True))) or r"(?!)", re.IGNORECASE)


def without(content: Any, words: frozenset[str]) -> Any:
    """A value of JSON in which these words have given way, in keys and texts."""
    if isinstance(content, str):
        return "erased" if content.lower() in words else pattern(words).sub("erased", content)
    if isinstance(content, list):
        return [without(item, words) for item in content]
    if isinstance(content, dict):
        return {without(key, words): without(item, words) for key, item in content.items()}
    return content


def names(content: Any, words: frozenset[str]) -> bool:
    """Whether a value of JSON holds one of these words."""
    if isinstance(content, str):
        return content.lower() in words or pattern(words).search(content) is not None
    if isinstance(content, list):
        return any(names(item, words) for item in content)
    return isinstance(content, dict) and any(names(key, words) or names(item, words) for key, item in content.items())


def columns_that_name(found: Dump, words: set[str]) -> dict[tuple[str, str], Any]:
    """(table, column) of the application in which one of these words stands, with what stands there."""
    looked_for = frozenset(words)
    return {
        (table, column): content
        for (table, _), row in found.items()
        if table != "auth.users"
        for column, content in row.items()
        if names(content, looked_for)
    }


def wrongs(before: Dump, after: Dump, leavers: Iterable[Leaver]) -> list[str]:
    """What a run has changed that the map does not declare for the bound keys of those who leave. Expected: none."""
    leaving = list(leavers)
    words = frozenset[str]().union(*(leaver.words for leaver in leaving))
    found = [f"{key}: added" for key, row in after.items() if key not in before and row.get("entity_type") != "job"]
    for key, row in before.items():
        new, table = after.get(key), key[0]
        if new == row or any(leaver.owns(table, row) for leaver in leaving):
            continue
        if new is None:
            found.append(f"{key}: gone: {row}")
            continue
        for column in (column for column in row if row[column] != new.get(column) and column != "updated_at"):
            taken = new[column] is None and isinstance(row[column], str) and row[column] in words
            if (table, column) not in declared("redacted") or row.get("entity_type") == "job":
                found.append(f"{key}: {column} was {row[column]!r}")
            elif not taken and without(row[column], words) != without(new[column], words):
                found.append(f"{key}: {column} was {row[column]!r}, is {new[column]!r}")
    return found

"""Where a person's data lives and what becomes of it: the one place that says so.

`lifecycle migrate` copies it into `lifecycle.erasure_steps` and `lifecycle.personal_data_columns`, which the database
functions read. The check `personal_data_map_is_complete` compares it with the live schema: a column that could hold
personal data and is not named here fails it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final


class Key(StrEnum):
    """By what a row is found. lifecycle.collect_erasure_keys() says where each kind comes from."""

    account = "account"
    sign_in_user = "sign_in_user"
    web_session = "web_session"  # every visit the person took part in
    own_web_session = "own_web_session"  # those in which nobody else was seen who stays
    chat_session = "chat_session"
    quiz_session = "quiz_session"
    recommendation_run = "recommendation_run"
    generated_activity = "generated_activity"  # made in the person's chats and saved by nobody else
    form_submission = "form_submission"  # of the account, or anonymous with one of its e-mail addresses
    voucher = "voucher"  # of those bookings
    audit_subject = "audit_subject"  # ledger rows about the person
    audit_performer = "audit_performer"  # ledger rows of what the person did


class Action(StrEnum):
    delete = "delete"
    scrub = "scrub"


class Treatment(StrEnum):
    """What a column means for the search after an erasure."""

    deleted = "deleted"  # the person's rows go; a find anywhere else fails the job
    cleared = "cleared"  # the row stays, the column is replaced; a find fails the job
    redacted = "redacted"  # free form of others' rows: the person's ids and addresses are taken out of it
    refreshed = "refreshed"  # derived; made anew before the search
    exempt = "exempt"  # may name the person, for the reason given; counted in the receipt
    clean = "clean"  # holds nothing of a person; a find fails the job


# Not a hash: a hash of the session would still tie a person's events together.
ERASED: Final = "erased"
# Residues in them must not fail a job: whoever wrote somebody's address into their own form could hold up that
# person's erasure for ever.
OTHERS_FREE_FORM: Final = "free form of others' rows, in which somebody's address may have been written down"

Rule = Mapping[str, Any]
NULL: Final[Rule] = {"with": "null"}
REDACTED: Final[Rule] = {"with": "redacted"}  # every id and e-mail address in it gives way to a word
LOCATION: Final[Rule] = {"with": "location"}  # a URL without query and fragment, redacted


def constant(value: str) -> Rule:
    """The same value for everybody, so that it ties no rows together."""
    return {"with": "value", "value": value}


def allowed(*keys: str) -> Rule:
    """Of a JSON object only these keys, redacted."""
    return {"with": "allowed", "keys": list(keys)}


@dataclass(frozen=True)
class Step:
    """What is done to the rows of one table whose `key_column` is one of the person's keys of kind `key`.

    `unowned` names a column that must be null: a row without an owner, in a visit that was the person's alone.
    """

    key_column: str
    key: Key
    action: Action = Action.delete
    replacements: Mapping[str, Rule] = field(default_factory=dict)
    unowned: str | None = None


@dataclass(frozen=True)
class Table:
    """One table: its steps, and what its columns mean where a row stays.

    `columns` maps a column, or `*` for all others, to its treatment and the reason. Columns that a step replaces are
    `cleared` without being named again.
    """

    name: str
    reason: str
    steps: tuple[Step, ...] = ()
    columns: Mapping[str, tuple[Treatment, str]] = field(default_factory=dict)
    schema: str = "public"

    @property
    def qualified_name(self) -> str:
        return f"{self.schema}.{self.name}"

    def treatments(self) -> dict[str, tuple[Treatment, str]]:
        """Every declared column with its treatment and reason."""
        found = {column: (Treatment.cleared, self.reason) for step in self.steps for column in step.replacements}
        if self.steps and all(step.action is Action.delete for step in self.steps):
            found["*"] = (Treatment.deleted, self.reason)
        return found | dict(self.columns)


def clean(reason: str, *columns: str) -> dict[str, tuple[Treatment, str]]:
    """Columns that hold nothing of a person, so that a find in them is a fault."""
    return dict.fromkeys(columns, (Treatment.clean, reason))


def redacted(reason: str, *columns: str) -> dict[str, tuple[Treatment, str]]:
    """Free form of others' rows, from which the person's ids and addresses are taken out."""
    return dict.fromkeys(columns, (Treatment.redacted, reason))


def exempt(reason: str, *columns: str) -> dict[str, tuple[Treatment, str]]:
    """Columns that may name the person after the erasure, for this reason."""
    return dict.fromkeys(columns, (Treatment.exempt, reason))

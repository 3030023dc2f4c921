"""One step from what is to what is declared, and how such steps are told."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from psycopg import sql

from lifecycle.language import Phrase, translatable

Kind = Literal["revoke", "grant", "row security", "policy", "policy roles", "option", "grant option"]
MAY: Final = translatable("{role} may {privilege}")


@dataclass(frozen=True)
class Change:
    """One step from what is to what is declared. `before` is what the way back needs to know."""

    object: str
    kind: Kind
    subject: str
    told: Phrase
    statement: sql.Composed
    detail: str = ""
    grantable: bool = False
    owner: str | None = None


def in_words(changes: Iterable[Change]) -> Iterator[Phrase]:
    """Every change of an object, the privileges of one role together."""
    privileges: dict[str, list[str]] = defaultdict(list)
    for change in changes:
        if change.kind == "revoke":
            privileges[change.subject].append(change.detail)
        else:
            yield change.told
    for role, verbs in privileges.items():
        yield Phrase(MAY, role=role, privilege=tuple(verbs))

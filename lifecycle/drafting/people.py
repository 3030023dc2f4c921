"""Who a person is: the table of accounts, and how it leads to those who sign in."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lifecycle.drafting.survey import SIGN_INS, Relation, Survey, words
from lifecycle.names import QualifiedName

PEOPLE: Final = {
    "user",
    "users",
    "account",
    "accounts",
    "profile",
    "profiles",
    "person",
    "persons",
    "people",
    "customers",
}
SIGN_IN_ID: Final = "id"


@dataclass(frozen=True)
class SignInLink:
    """Where the id of a sign-in stands: `column` of the rows of `table` whose `by` is the person."""

    table: QualifiedName
    by: str
    column: str


@dataclass(frozen=True)
class Person:
    """The table of persons with its key, and the way to their sign-ins, where there is one. `others` might be meant."""

    table: QualifiedName
    key: str
    type: str
    sign_in: SignInLink | None
    others: tuple[QualifiedName, ...] = ()


def find_person(found: Survey) -> Person | None:
    """The likeliest table; the platform's sign-ins where the application has no table of its own; else None."""
    weighed = sorted(_candidates(found), key=lambda each: (-each[0], each[1].name))
    people_sign_in = bool(found.sign_ins and found.references_to(SIGN_INS))
    # A table of accounts that no sign-in leads to is one of teams, where rows elsewhere name the sign-in themselves.
    if weighed and not (people_sign_in and _sign_in(found, weighed[0][1]) is None):
        best = weighed[0][1]
        others = tuple(table.name for weight, table in weighed[1:4])
        column = best.column(best.key[0])
        return Person(best.name, best.key[0], column.type if column else "", _sign_in(found, best), others)
    others = tuple(table.name for _, table in weighed[:3])
    return Person(SIGN_INS, SIGN_IN_ID, "uuid", None, others) if people_sign_in else None


def _candidates(found: Survey) -> Iterator[tuple[int, Relation]]:
    for table in found.of_kind("r"):
        if len(table.key) != 1:
            continue
        called = words(table.name.name)
        by_name = bool(called) and called[-1] in PEOPLE
        own = _own_sign_in(found, table) is not None
        if not by_name and not own:
            continue
        pointing = {reference.table for reference in found.references_to(table.name)} - {table.name}
        weight = len(pointing) + (5 if by_name else 0) + (5 if own else 0)
        weight += 3 if _linked(found, table) is not None else 0
        weight += 2 if len(called) == 1 and by_name else 0
        yield weight, table


def _sign_in(found: Survey, person: Relation) -> SignInLink | None:
    return _own_sign_in(found, person) or _linked(found, person)


def _own_sign_in(found: Survey, person: Relation) -> SignInLink | None:
    """A key, or another unique column, of the table itself that points at the sign-ins."""
    for reference in found.references_of(person.name):
        column = person.column(reference.column)
        if reference.target == SIGN_INS and column is not None and column.unique:
            return SignInLink(person.name, person.key[0], reference.column)
    return None


def _linked(found: Survey, person: Relation) -> SignInLink | None:
    """A table between: it points at the person, and holds the id of a sign-in."""
    for table in found.of_kind("r"):
        by = _points_at(found, table, person) or called_after(found, table, person)
        if table.name != person.name and by is not None and (column := _holds_a_sign_in(found, table, by)) is not None:
            return SignInLink(table.name, by, column)
    return None


def _points_at(found: Survey, table: Relation, person: Relation) -> str | None:
    """The column of a foreign key to the person."""
    own = (reference.column for reference in found.references_of(table.name) if reference.target == person.name)
    return next(own, None)


def called_after(found: Survey, table: Relation, person: Relation) -> str | None:
    """The column that is called after the person and has the type of their key, without a foreign key."""
    pointing = {reference.column for reference in found.references_of(table.name)}
    key = person.column(person.key[0])
    meant = (*words(singular(person.name.name)), "id")
    for each in table.columns:
        if words(each.name) == meant and key is not None and each.type == key.type and each.name not in pointing:
            return each.name
    return None


def is_a_sign_in(said: tuple[str, ...]) -> bool:
    """Whether words of a column's name mean somebody who signs in, rather than an account."""
    return bool({"auth", "supabase"} & set(said))


def singular(name: str) -> str:
    """The name of one of many, as English mostly makes it."""
    for end, one in (
        ("ies", "y"),
        ("sses", "ss"),
        ("xes", "x"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("ss", "ss"),
        ("s", ""),
    ):
        if name.lower().endswith(end):
            return name[: -len(end)] + one
    return name


def _holds_a_sign_in(found: Survey, table: Relation, besides: str) -> str | None:
    for reference in found.references_of(table.name):
        column = table.column(reference.column)
        if reference.target == SIGN_INS and column is not None and column.unique:
            return reference.column
    # Without a foreign key: ids of the platform's type under a name that says whose they are.
    pointing = {reference.column for reference in found.references_of(table.name)}
    for column in table.columns:
        said = words(column.name)
        named = said[-2:] == ("user", "id") and is_a_sign_in(said)
        if found.sign_ins and named and column.type == "uuid" and column.name not in pointing | {besides}:
            return column.name
    return None

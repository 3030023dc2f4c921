"""Archived rows in the eyes of views over their table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlglot import exp

from lifecycle.archive.layout import Layout
from lifecycle.declarations.model import fixed_length
from lifecycle.names import QualifiedName, quoted
from lifecycle.views.definition import parse_definition
from lifecycle.views.lookback import conditions, looks_back_less, parts, tables_of


@dataclass(frozen=True)
class ArchivedRows:
    """What of a table's rows stands in its archive (lifecycle/views/seam.py, Elsewhere)."""

    layout: Layout

    @property
    def table(self) -> QualifiedName:
        return self.layout.archive.source

    @property
    def relations(self) -> tuple[QualifiedName, ...]:
        return (self.layout.archive.declared.archive,)

    @property
    def fingerprint(self) -> str:
        return f"{self.table} {self.relations[0]} {self.layout.fingerprint}"

    @property
    def passed_by(self) -> QualifiedName | None:
        return self.layout.archive.declared.recent_view

    @property
    def accepted(self) -> bool:
        return self.layout.archive.declared.accept_changed_views

    @property
    def missed(self) -> str:
        return f"reads only those rows of {self.table} that are not archived yet"

    @property
    def fewest_columns(self) -> None:
        return None

    def selected(self, relation: QualifiedName, columns: Sequence[str]) -> str:
        shown = ", ".join(map(self._archived, columns))
        return f"SELECT {shown} FROM {relation} a"  # noqa: S608 - names, quoted

    def _archived(self, name: str) -> str:
        column = self.layout.column(name)
        if column.compressed:
            return f"NULL::{column.type} AS {quoted(name)}"
        cast = "" if column.built_in else f"::{column.type}"
        return f"a.{quoted(name)}{cast} AS {quoted(name)}"

    def concerns(self, definition: str) -> bool:  # noqa: ARG002 - none is known to need no old rows
        return True

    def obstacle(self, definition: str, columns: Sequence[str]) -> str | None:
        if needed := self.old_text_needed(definition, columns):
            return (
                f"it reads {needed} of old rows, which stands packed in {self.relations[0]}; let groups stay longer "
                "than it looks back (archive.yaml, `groups: after`), or accept that it changes"
            )
        return None

    def old_text_needed(self, definition: str, columns: Sequence[str]) -> str | None:
        """The packed column of which the definition may need old values; None where it cannot.

        It cannot where each SELECT that reads one keeps to groups that began more recently than their rows may move:
        that joins the table of groups by its key and compares its time with the present, less than the declared age.
        """
        groups = self.layout.archive.declared.groups
        packed = {column.name for column in self.layout.compressed}
        # Only a reader outside of the database can unpack their old values.
        unreadable = tuple(column for column in columns if column in packed)
        if not unreadable:
            return None
        if groups.time is None or groups.after is None:
            return unreadable[0]
        after = fixed_length(groups.after)
        for select in parse_definition(definition).find_all(exp.Select):
            aliases = {table.alias_or_name: QualifiedName(table.db, table.name) for table in tables_of(select)}
            for alias in (alias for alias, name in aliases.items() if name == self.table):
                read = {
                    c.name
                    for c in select.find_all(exp.Column)
                    if c.table == alias and c.find_ancestor(exp.Select) is select
                }
                if needed := read & set(unreadable):
                    within = [
                        a for a, name in aliases.items() if name == groups.table and self._joined(select, alias, a)
                    ]
                    if not any(looks_back_less(select, found, groups.time, after) for found in within):
                        return min(needed)
        return None

    def _joined(self, select: exp.Select, rows_alias: str, groups_alias: str) -> bool:
        declared = self.layout.archive.declared
        wanted = {(rows_alias, declared.group), (groups_alias, declared.groups.id)}
        return any(
            isinstance(part, exp.EQ)
            and {
                (side.table, side.name)
                for side in (part.left.unnest(), part.right.unnest())
                if isinstance(side, exp.Column)
            }
            == wanted
            for part in (*conditions(select), *_joins(select))
        )


def _joins(select: exp.Select) -> Iterator[exp.Expr]:
    for join in select.args.get("joins") or ():
        if (on := join.args.get("on")) is not None:
            yield from parts(on)

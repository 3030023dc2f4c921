"""What foreign keys would have done to rows that were in files when the rows they point to were deleted."""

from dataclasses import dataclass
from functools import partial
from typing import Final

from psycopg import sql

from lifecycle.cold.tables import ColdTable
from lifecycle.database import Connection, politely, rows
from lifecycle.errors import RefusedError
from lifecycle.names import QualifiedName

# As pg_constraint writes ON DELETE.
CASCADE, SET_NULL, SET_DEFAULT = "c", "n", "d"
# ON DELETE SET NULL (a column) names those that it empties; without that it empties all.
FOREIGN_KEYS: Final = """
select k.conname::text, k.confdeltype::text, (select format('%%I.%%I', n.nspname, c.relname) from pg_class c
               join pg_namespace n on n.oid = c.relnamespace where c.oid = k.confrelid),
       array(select a.attname::text from unnest(k.conkey) with ordinality u(n, o)
               join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.n order by o),
       array(select a.attname::text from unnest(k.confkey) with ordinality u(n, o)
               join pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.n order by o),
       array(select a.attname::text from unnest(coalesce(k.confdelsetcols, k.conkey)) u(n)
               join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.n),
       pg_get_constraintdef(k.oid), k.convalidated,
       exists (select from lifecycle.event_table_policies p where lifecycle.event_table(p) = k.confrelid)
  from pg_constraint k where k.conrelid = to_regclass(%s) and k.contype = 'f' and k.conparentid = 0 order by 1
"""
ORPHAN: Final = "({mine}) and not exists (select from {referenced} r where {same})"


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key of an event table: `columns` point to `their_columns` of `referenced` (its name as SQL).

    `on_delete` is the letter of pg_constraint, and `emptied` what SET NULL and SET DEFAULT change. `to_event_table`:
    the rows it points to may be in files themselves.
    """

    name: str
    on_delete: str
    referenced: str
    columns: tuple[str, ...]
    their_columns: tuple[str, ...]
    emptied: tuple[str, ...]
    definition: str
    validated: bool
    to_event_table: bool

    @property
    def acts(self) -> bool:
        """Whether it says what becomes of a row. One that was never validated says nothing of rows that are older."""
        return self.validated and self.on_delete in (CASCADE, SET_NULL, SET_DEFAULT)

    @property
    def orphans(self) -> sql.Composed:
        """The condition of a row t that points to one that is gone. As MATCH SIMPLE: with a NULL it points to none."""
        return sql.SQL(ORPHAN).format(
            mine=sql.SQL(" and ").join(
                sql.SQL("t.{} is not null").format(sql.Identifier(column)) for column in self.columns
            ),
            referenced=sql.SQL(self.referenced),
            same=sql.SQL(" and ").join(
                sql.SQL("r.{} = t.{}").format(sql.Identifier(their), sql.Identifier(my))
                for my, their in zip(self.columns, self.their_columns, strict=True)
            ),
        )


def foreign_keys(conn: Connection, table: QualifiedName) -> tuple[ForeignKey, ...]:
    """Those of a table, by name."""
    return tuple(
        ForeignKey(name, action, referenced, tuple(mine), tuple(theirs), tuple(emptied), *rest)
        for name, action, referenced, mine, theirs, emptied, *rest in rows(conn, FOREIGN_KEYS, (str(table),))
    )


def follow(conn: Connection, key: ForeignKey, target: sql.Composable) -> int:
    """Do to the rows of `target` what ON DELETE says; how many were changed or went. Of a key that acts."""
    if key.on_delete == CASCADE:
        return conn.execute(sql.SQL("delete from {} t where {}").format(target, key.orphans)).rowcount
    emptied = sql.SQL("null" if key.on_delete == SET_NULL else "default")
    columns = sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(column), emptied) for column in key.emptied)
    return conn.execute(sql.SQL("update {} t set {} where {}").format(target, columns, key.orphans)).rowcount


def count_orphans(conn: Connection, key: ForeignKey, target: sql.Composable) -> int:
    """Rows of `target` that point to rows that are gone."""
    found = conn.execute(sql.SQL("select count(*) from {} t where {}").format(target, key.orphans)).fetchone()
    return int(found[0]) if found else 0


def apply_foreign_keys(conn: Connection, table: ColdTable, built: sql.Identifier) -> int:
    """Give a month that comes back the table's foreign keys, after what they would have done; how many rows were
    changed or went.

    RefusedError where rows point to others that are gone and a key does not say what becomes of them.
    """
    changed = 0
    for key in foreign_keys(conn, table.relation):
        add = sql.SQL("alter table {} add constraint {} {} not valid").format(
            built, sql.Identifier(key.name), sql.SQL(key.definition.removesuffix(" NOT VALID"))
        )
        # From here on the key itself does it; nobody waits while all rows are looked at.
        what = f"foreign key {key.name} of {table.relation}"
        politely(conn, partial(conn.execute, add), what=what, relation=key.referenced)
        if key.acts:
            changed += follow(conn, key, built)
        elif key.validated and (count := count_orphans(conn, key, built)):
            raise RefusedError(
                f"{count:,} rows of {table.relation} point to rows of {key.referenced} that are gone, and {key.name} "
                "has no ON DELETE that says what becomes of them. Restore those rows or drop the foreign key, then try "
                "again; the files are as they were."
            )
        if key.validated:
            conn.execute(sql.SQL("alter table {} validate constraint {}").format(built, sql.Identifier(key.name)))
    return changed

"""Statements of the application that a partitioned table would refuse: found in functions and in pg_stat_statements."""

import re

import psycopg
from psycopg import sql

from lifecycle.database import Connection, rows, value
from lifecycle.language import Phrase
from lifecycle.partitions.tables import MonthlyTable

SHOWN_CHARACTERS = 100
FUNCTIONS = """
select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
 where n.nspname not in ('pg_catalog', 'information_schema', 'lifecycle') and p.prosrc ~* %s order by 1
"""
STATISTICS_SCHEMA = """
select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace
 where e.extname = 'pg_stat_statements'
"""
# Constants are replaced by $1, $2, ... in this view, so no value of a row is shown.
STATEMENTS = """
select distinct left(regexp_replace(query, '\\s+', ' ', 'g'), {length}) from {view}
 where dbid = (select oid from pg_database where datname = current_database())
   and query ~* '^\\s*(insert|with)\\y' and query ~* {pattern}
 order by 1 limit 5
"""


def upsert_pattern(table: MonthlyTable, key: tuple[str, ...]) -> str:
    """A POSIX expression for INSERT INTO the table ... ON CONFLICT on exactly these key columns."""
    name = re.escape(table.name)
    columns = r"\s*,\s*".join(f'"?{re.escape(column)}"?' for column in key)
    return (
        rf'insert\s+into\s+("?{re.escape(table.schema)}"?\s*\.\s*)?"?{name}"?\y.*'
        rf"on\s+conflict\s*\(\s*{columns}\s*\)"
    )


def upserts_by_old_key(conn: Connection, table: MonthlyTable, key: tuple[str, ...]) -> list[Phrase]:
    """Functions and recorded statements whose ON CONFLICT names the old key, one phrase each."""
    pattern = upsert_pattern(table, key)
    found = [Phrase("function {function}", function=row[0]) for row in rows(conn, FUNCTIONS, (pattern,))]
    schema = value(conn, STATISTICS_SCHEMA)
    if schema is None:
        return found
    query = sql.SQL(STATEMENTS).format(
        length=sql.Literal(SHOWN_CHARACTERS),
        view=sql.Identifier(schema, "pg_stat_statements"),
        pattern=sql.Literal(pattern),
    )
    try:
        with conn.transaction():
            return found + [
                Phrase("statement {statement} ...", statement=row[0]) for row in conn.execute(query).fetchall()
            ]
    except (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.InsufficientPrivilege):
        return found  # installed without being loaded, or closed to this role

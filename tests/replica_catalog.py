"""The catalog of a database in the form of tests/data/catalog_*.json, which were read from the real application.

One text per column, constraint, index, trigger, policy and function, so that a difference reads like DDL.
"""

import json
from pathlib import Path
from typing import Any, Final

import psycopg

DATA: Final = Path(__file__).parent / "data"

CATALOG: Final = """
select jsonb_build_object(
    'enums', (
        select jsonb_object_agg(t.typname, (select jsonb_agg(enumlabel order by enumsortorder)
                                              from pg_enum where enumtypid = t.oid))
          from pg_type t where t.typtype = 'e' and t.typnamespace = 'public'::regnamespace),
    'functions', (
        select jsonb_agg(concat_ws(' ', p.oid::regprocedure, pg_get_function_result(p.oid), p.provolatile,
                                   case when p.prosecdef then 'definer' end)
                         order by p.oid::regprocedure::text collate "C")
          from pg_proc p where p.pronamespace = 'public'::regnamespace),
    'relations', (
        select jsonb_object_agg(c.relname, jsonb_build_object(
            'kind', case c.relkind when 'r' then 'table' when 'v' then 'view' when 'm' then 'materialized view' end
                    || case when c.relrowsecurity then ', row security' else '' end,
            'columns', (
                select jsonb_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod),
                                           case when a.attnotnull then 'not null' end,
                                           '= ' || pg_get_expr(d.adbin, d.adrelid)) order by a.attnum)
                  from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
                 where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
            'constraints', (
                select jsonb_agg(k.conname || ': ' || pg_get_constraintdef(k.oid))
                  from pg_constraint k where k.conrelid = c.oid and k.contype <> 'n'),
            'indexes', (select jsonb_agg(pg_get_indexdef(i.indexrelid)) from pg_index i where i.indrelid = c.oid),
            'triggers', (
                select jsonb_agg(t.tgname || ': ' || t.tgfoid::regproc)
                  from pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal),
            'policies', (
                select jsonb_agg(p.cmd || ': ' || p.policyname)
                  from pg_policies p where p.schemaname = 'public' and p.tablename = c.relname)
        ))
          from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v', 'm'))
)
"""


def expected(name: str) -> dict[str, Any]:
    """The real catalog, `november` or `december`."""
    catalog: dict[str, Any] = json.loads((DATA / f"catalog_{name}.json").read_text())
    return catalog


def found(url: str) -> dict[str, Any]:
    """The catalog of schema public in the database at `url`; what a relation has none of is left out."""
    with psycopg.connect(url) as conn:
        (catalog,) = conn.execute(CATALOG).fetchall()[0]
    catalog["relations"] = {
        relation: {
            part: values if part in ("kind", "columns") else sorted(values) for part, values in parts.items() if values
        }
        for relation, parts in catalog["relations"].items()
    }
    return dict(catalog)

"""Names of relations and functions as (schema, name) pairs, written as PostgreSQL would print them."""

import re
from dataclasses import dataclass
from typing import Any, Final

from psycopg import sql
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

PLAIN: Final = re.compile(r"[a-z_][a-z0-9_]*")
# Words that PostgreSQL quotes as names, in every version from 15 on: pg_get_keywords(). Users, orders and groups are
# often tables.
KEYWORDS: Final = frozenset(
    """
    all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean both case
    cast char character check coalesce collate collation column concurrently constraint create cross current_catalog
    current_date current_role current_schema current_time current_timestamp current_user dec decimal default
    deferrable desc distinct do else end except exists extract false fetch float for foreign freeze from full grant
    greatest group grouping having ilike in initially inner inout int integer intersect interval into is isnull join
    lateral leading least left like limit localtime localtimestamp national natural nchar none normalize not notnull
    null nullif numeric offset on only or order out outer overlaps overlay placing position precision primary real
    references returning right row select session_user setof similar smallint some substring symmetric table
    tablesample then time timestamp to trailing treat trim true union unique user using values varchar variadic
    verbose when where window with xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse
    xmlpi xmlroot xmlserialize xmltable
    """.split()  # noqa: SIM905 - a line a word would be half of the file
)
PART: Final = r'(?:[a-z_][a-z0-9_$]*|"(?:[^"]|"")+")'
QUALIFIED: Final = re.compile(rf"({PART})\.({PART})")
# PostgreSQL cuts longer ones without a word.
LONGEST: Final = 63


def quoted(name: str) -> str:
    """One identifier as PostgreSQL would need it: plain where it can be, else in double quotes."""
    plain = PLAIN.fullmatch(name) and name not in KEYWORDS
    return name if plain else '"' + name.replace('"', '""') + '"'


def _unquoted(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part


@dataclass(frozen=True, order=True)
class QualifiedName:
    """A relation or function by schema and name, both as they stand in the catalog, without quotes.

    In declarations it is text such as `public.orders` or `app."OrderItem"`.
    """

    schema: str
    name: str

    @classmethod
    def parse(cls, text: str) -> "QualifiedName":
        """Read `schema.name`; ValueError says what is wrong with it."""
        match = QUALIFIED.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{text!r} is no schema.name; write it as PostgreSQL prints it, such as public.orders or "
                'app."OrderItem" (quotes around capitals and special characters)'
            )
        schema, name = map(_unquoted, match.groups())
        if too_long := [part for part in (schema, name) if len(part.encode()) > LONGEST]:
            raise ValueError(f"{too_long[0]!r} is longer than {LONGEST} bytes, which PostgreSQL allows a name")
        return cls(schema, name)

    def __str__(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def identifier(self) -> sql.Identifier:
        """For statements that the driver composes."""
        return sql.Identifier(self.schema, self.name)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls.parse(str(value)),
            serialization=core_schema.plain_serializer_function_ser_schema(str),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {
            "type": "string",
            "pattern": f"^{QUALIFIED.pattern}$",
            "description": "schema.name, quoted where PostgreSQL would quote",
        }

"""Names of relations and functions as (schema, name) pairs, written as PostgreSQL would print them."""

import re
from dataclasses import dataclass
from typing import Any, Final

from psycopg import sql
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

PLAIN: Final = re.compile(r"[a-z_][a-z0-9_$]*")
PART: Final = r'(?:[a-z_][a-z0-9_$]*|"(?:[^"]|"")+")'
QUALIFIED: Final = re.compile(rf"({PART})\.({PART})")
# PostgreSQL cuts longer ones without a word.
LONGEST: Final = 63


def quoted(name: str) -> str:
    """One identifier as PostgreSQL would need it: plain where it can be, else in double quotes."""
    return name if PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'


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

"""No file of the machinery names an object of the application: facts are declared, or read from its catalog.

Looked at are identifiers and literals of SQL, in .sql files and in strings of Python that are SQL, and string constants
that are exactly a name. Prose (comments, docstrings, messages) may name what it likes.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import TokenError
from sqlglot.tokens import TokenType

ROOT: Final = Path(__file__).parents[1]
MACHINERY: Final = ("lifecycle", "assets", "sensors", "resources", "orchestration", "migrations")
CATALOGS: Final = ("catalog_november.json", "catalog_december.json")
STATEMENT: Final = re.compile(
    r"\b(select\s|insert\s+into|update\s+\S+\s+(\w+\s+)?set|delete\s+from|create\s|alter\s|drop\s|from\s+\S+|join\s)",
    re.IGNORECASE,
)
# What begins so is no sentence, whatever words it holds: "is null", an alias a, a literal that ends with a full stop.
BEGINS_AS_SQL: Final = re.compile(
    r"\s*(select|insert\s+into|update|delete\s+from|create|alter|drop|with|from|join|where|and)\s"
)
# Names that PostgreSQL, its platform, everybody who makes a schema, and this project's own tables use alike.
EVERYBODYS: Final = {
    *("created_at", "updated_at", "started_at", "ended_at", "completed_at", "processed_at", "requested_at"),
    *("user_id", "account_id", "session_id", "run_id", "is_active", "table_name", "error_message"),
    # Columns of this project's own tables and answers.
    *("closed_at", "answered_at", "scanned_at", "event_type", "function_name", "processed_by", "request_reason"),
    # A job of this project: Dagster's, whatever function is declared for it.
    "run_daily_maintenance",
}
# A table of one everyday word is named by a statement only where a table stands.
BEFORE_A_TABLE: Final = ("from", "join", "update", "table", "on", "references", ".")
BODIES: Final = (TokenType.HEREDOC_STRING, TokenType.STRING)


def application_names() -> dict[str, str]:
    """Names that only an application gives: what each is. Of columns those of several words."""
    found: dict[str, str] = {}
    for file in CATALOGS:
        catalog = json.loads((ROOT / "tests/data" / file).read_text(encoding="utf-8"))
        for relation, described in catalog["relations"].items():
            columns = (column.split()[0] for column in described["columns"])
            found |= {column: f"a column of {relation}" for column in columns if "_" in column}
        found |= dict.fromkeys(catalog["relations"], "a table or view")
        found |= {signature.partition("(")[0]: "a function" for signature in catalog["functions"]}
        found |= dict.fromkeys(catalog["enums"], "a type")
    return {name: what for name, what in found.items() if name not in EVERYBODYS}


NAMES: Final = application_names()


def words_of_sql(text: str) -> Iterator[str]:
    """Identifiers and literals, those in bodies of functions included; comments are none."""
    try:
        tokens = Postgres.Tokenizer().tokenize(text)
    except TokenError:
        tokens = []
        yield from re.findall(r"\w+", re.sub(r"--.*", "", text))
    before = ""
    for token in tokens:
        if token.token_type in BODIES and re.search(r"\s", token.text):
            yield from words_of_sql(token.text)
        else:
            for word in re.findall(r"[a-z_]\w*", token.text):
                if "_" in word or before in BEFORE_A_TABLE:
                    yield word
        before = token.text.lower()


def words_of_python(text: str) -> Iterator[tuple[int, str]]:
    """The same of every string that is SQL; of any other string the whole, if it is one name or schema.name."""
    tree = ast.parse(text)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in docstrings:
            continue
        if STATEMENT.search(node.value) and not is_prose(node.value):
            yield from ((node.lineno, word) for word in words_of_sql(node.value))
        else:
            schema, _, name = node.value.rpartition(".")
            if schema or "_" in name:
                yield node.lineno, name


def is_prose(text: str) -> bool:
    """A sentence for people: an article or the verb to be, a full stop at the end, or names in backquotes."""
    return not BEGINS_AS_SQL.match(text) and bool(re.search(r"[.!?]$|`|\b(the|a|an|is|are|of)\b", text.strip()))


def machinery() -> list[Path]:
    files = (path for folder in MACHINERY for path in (ROOT / folder).rglob("*"))
    return sorted(path for path in files if path.suffix in (".py", ".sql"))


def found_in(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    words = words_of_python(text) if path.suffix == ".py" else ((0, word) for word in words_of_sql(text))
    place = path.relative_to(ROOT).as_posix()
    return sorted({f"{place}:{line or ''} {word}, {NAMES[word]}" for line, word in words if word in NAMES})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('QUERY = "select count(*) from public.accounts"', ["accounts"]),
        (
            'BODY = "create function f() returns int as $$ begin perform 1 from chat_messages; end $$"',
            ["chat_messages"],
        ),
        ('ASKED = "select a.id from public.accounts a where a.id is not null"', ["accounts"]),
        ('NAME = "public.vouchers"', ["vouchers"]),
        ('COLUMN = "event_timestamp"', ["event_timestamp"]),
        ('"""Moves rows of chat_messages."""', []),
        ('raise Error("the session stays in chat_messages: select another one.")', []),
        ('KEY = "accounts"', []),
    ],
)
def test_what_counts_as_naming(text: str, found: list[str]) -> None:
    assert [word for _, word in words_of_python(text) if word in NAMES] == found


def test_the_machinery_names_nothing_of_the_application() -> None:
    assert [line for path in machinery() for line in found_in(path)] == []

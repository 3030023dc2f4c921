"""Whether a BEFORE row trigger may set the time column: a partition chosen by the old value cannot take the new one.

A reading of its source, so it errs towards saying yes: where it says no wrongly, the application's INSERT fails.
"""

import re
from typing import Final

from lifecycle.database import Connection, rows

# Row (1), before (2).
TRIGGERS: Final = """
select t.tgname::text, l.lanname::text, p.prosrc, t.tgargs
  from pg_trigger t join pg_proc p on p.oid = t.tgfoid join pg_language l on l.oid = p.prolang
 where t.tgrelid = %s and not t.tgisinternal and t.tgtype & 3 = 3 order by 1
"""
# The first of these that begins somewhere is what stands there: a comment in a text is none, nor the other way round.
NO_CODE: Final = re.compile(r"--[^\n]*|/\*.*?\*/|e'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'", re.IGNORECASE | re.DOTALL)
RETURNED: Final = re.compile(r"\breturn\b([^;]*)", re.IGNORECASE)
# What a returned expression may hold without being another row than the one that came.
HARMLESS: Final = frozenset(
    ("new", "old", "null", "case", "when", "then", "else", "end", "and", "or", "not", "is", "tg_op", "coalesce")
)
BEGINNING: Final = r"(?:^|;|>>|\b(?:begin|then|else|loop)\b)\s*"


def triggers_that_set(conn: Connection, table_oid: int, column: str) -> list[str]:
    """Names of the table's BEFORE row triggers that may set `column` of the new row."""
    return [
        name
        for name, language, source, arguments in rows(conn, TRIGGERS, (table_oid,))
        # Each argument ends with a zero byte.
        if may_set(language, source, bytes(arguments).replace(b"\0", b" ").decode(errors="replace"), column)
    ]


def may_set(language: str, source: str, arguments: str, column: str) -> bool:
    """Whether a trigger function may set `column` of the row, by its source and the trigger's arguments."""
    named = re.compile(rf'(?<![\w"]){re.escape(column)}(?![\w"])|"{re.escape(column)}"', re.IGNORECASE)
    if language in ("c", "internal"):
        # Compiled ones, such as moddatetime, are told which column to set.
        return bool(named.search(arguments))
    if language != "plpgsql":
        return bool(named.search(source))
    code = NO_CODE.sub(" ", source)
    field = rf'\bnew\s*\.\s*"?{re.escape(column)}"?(?!\w)'
    targets = rf"(?:{field}|\bnew\b(?!\s*\.))"
    assigned = rf"{BEGINNING}{targets}\s*:?=|\b(?:into|for)\s+(?:strict\s+)?(?:[\w.\"]+\s*,\s*)*{targets}"
    if re.search(assigned, code, re.IGNORECASE):
        return True
    for returned in RETURNED.findall(code):
        words = {word.lower() for word in re.findall(r"[^\W\d]\w*", returned)} - HARMLESS
        if words and (named.search(code) or "(" in returned):
            return True
    return False

"""What PostgreSQL's errors say about the server itself: whether it is away, and what to do where it cannot work now.

Never in the client's words: they quote what it took for the name of a host, which may be a part of a password.
"""

import re
from collections.abc import Mapping
from typing import Final

import psycopg

# The server ends sessions, starts or stops, or has no place left.
AWAY: Final = ("57P01", "57P02", "57P03", "53300")
SERVER_SAID: Final = re.compile(r"FATAL:\s*([^\n]+)")
CLIENT_SAID: Final = {
    "refused": "nobody listens at its address",
    "timeout": "no answer in time",
    "timed out": "no answer in time",
    "resolve": "the name of its host is not known",
    "translate": "the name of its host is not known",
    "unreachable": "no route to its host",
}
# An error of a connection that did not come about has no code. Poolers have words of their own.
SAID: Final[Mapping[str, re.Pattern[str]]] = {
    "53300": re.compile(
        "too many clients|too many connections|connection slots are reserved|no more connections|max client", re.I
    ),
    "28P01": re.compile("password authentication failed", re.I),
    "3D000": re.compile('database ".*" does not exist', re.I),
}
# A function, relation, column or schema that is not there. What is called in public is ours, too.
MISSING: Final = {
    "42883": re.compile(r"\b(lifecycle|public)\."),
    **dict.fromkeys(("42P01", "42703", "3F000"), re.compile(r"\blifecycle\b")),
}
# Of values that do not fit and of constraints PostgreSQL's details quote the row.
QUOTING: Final = ("22", "23")
NEXT_STEPS: Final[Mapping[str, str]] = {
    "25006": "The database is read-only now: a full disk makes it so on Supabase, a standby always is. Nothing was "
    "changed. Enlarge the disk, or name the primary server, then run this again.",
    "53100": "The server's disk is full. Nothing was changed by this statement. Make room, then run this again.",
    "53300": "The server has no connection left. Nothing was done. End sessions that idle, or connect through the "
    "session pooler (on Supabase port 5432), then run this again.",
    "28P01": "Correct user or password; in a URL, a character of the password that is no letter or digit is written "
    "as % and two digits, such as %40 for @.",
    "3D000": "Correct the database's name at the end of the URL.",
}


def code_of(error: psycopg.Error) -> str:
    """The SQLSTATE, also of a connection that did not come about; "" where nobody gave a known one."""
    if error.sqlstate:
        return error.sqlstate
    text = str(error)
    return next((code for code, pattern in SAID.items() if pattern.search(text)), "")


def next_step(error: psycopg.Error) -> str:
    """What cures an error of the server as a whole; "" where the error is about something else."""
    return NEXT_STEPS.get(code_of(error), "")


def first_line(error: BaseException) -> str:
    """What went wrong, without the DETAIL and CONTEXT lines, where PostgreSQL quotes the offending row."""
    text = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return (text or str(error)).strip().partition("\n")[0] or type(error).__name__


def told(error: psycopg.Error) -> str:
    """An error for the person at a terminal: what the server said and advises, without a row that it quotes."""
    if is_unreachable(error):
        return f"the database cannot be reached: {why_unreachable(error)}"
    if step := next_step(error):
        return step
    said = first_line(error)
    if (ours := MISSING.get(error.sqlstate or "")) and ours.search(said):
        return f"{said}: `lifecycle migrate` has not run here, or not all of it. Run it, then this again."
    quotes_rows = (error.sqlstate or "")[:2] in QUOTING
    return "\n".join(filter(None, (said, None if quotes_rows else error.diag.message_detail, error.diag.message_hint)))


def is_unreachable(error: psycopg.Error) -> bool:
    """Whether the database itself is away: not a statement of ours that it refused or was too busy for."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    # Without a code the client speaks: no connection came about, or it broke.
    return error.sqlstate is None or error.sqlstate.startswith("08") or error.sqlstate in AWAY


def why_unreachable(error: psycopg.Error) -> str:
    """In the server's words where it gave any, with the next step where one is known."""
    if error.diag.message_primary:
        said = first_line(error)
    elif found := SERVER_SAID.search(str(error)):
        said = found[1].strip()
    else:
        said = next((reason for part, reason in CLIENT_SAID.items() if part in str(error)), "the connection was lost")
    return f"{said.rstrip('.')}. {step}" if (step := next_step(error)) else said

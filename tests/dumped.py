"""What pg_dump prints of a database, entry by entry, so that two dumps can be compared."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url

from lifecycle.database import Connection, rows

PARTITIONS = "event_partitions"
OWN = re.compile(rf"^(COMMENT ON TABLE {PARTITIONS}.* IS 'lifecycle:|(CREATE|COMMENT ON) STATISTICS {PARTITIONS})")
# What somebody granted who may pass it on.
BY_ANOTHER = re.compile(r"(RE)?SET SESSION AUTHORIZATION.*;\n?")
GRANT = re.compile(r"^GRANT (.*?) (ON .*)$", re.MULTILINE)
# What follows the last entry.
END = re.compile(r"\n+--\n-- PostgreSQL database dump complete.*", re.DOTALL)
# Each partition and each index of one, with what it is a part of, by qualified and by bare name.
PARTS = """
select format('%I.%I', n.nspname, c.relname), format('%I.%I', pn.nspname, p.relname),
       quote_ident(c.relname), quote_ident(p.relname)
  from pg_inherits h join pg_class c on c.oid = h.inhrelid join pg_namespace n on n.oid = c.relnamespace
  join pg_class p on p.oid = h.inhparent join pg_namespace pn on pn.oid = p.relnamespace
 order by length(c.relname) desc
"""
ENTRY = re.compile(r"^-- Name: (.*); Type: (.*); Schema: (.*); Owner: (.*)$")


@dataclass(frozen=True, order=True)
class Entry:
    """One thing that a dump makes: its type, owner and statements."""

    kind: str
    owner: str
    text: str


def pg_dump(folder: Path, url: str) -> list[Entry]:
    """The definitions of a database as the server's own pg_dump prints them, without the schema of ours."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    told = subprocess.run(
        [folder / "pg_dump", "--schema-only", "--exclude-schema=lifecycle", plain],
        capture_output=True,
        text=True,
        check=True,
    )
    entries: list[Entry] = []
    # Settings such as the tablespace stand between the entries and are of those that follow.
    settings = ""
    for part in told.stdout.split("\n--\n-- Name: ")[1:]:
        head, _, body = part.partition("\n--\n")
        match = ENTRY.match("-- Name: " + head)
        assert match, head
        text = END.sub("", body).strip()
        if match[2] in ("TABLE", "INDEX", "MATERIALIZED VIEW", "CONSTRAINT"):
            text = settings + text
        settings_after = re.findall(r"^SET default_tablespace = .*;$", body, re.MULTILINE)
        if settings_after:
            settings = settings_after[-1] + "\n"
            text = text.replace(settings_after[-1], "").strip()
        entries.append(Entry(match[2], match[4].partition(";")[0], text))
    return entries


def named_after_the_whole(conn: Connection, entries: list[Entry]) -> set[Entry]:
    """The entries with every partition, and every index of one, under the name of what it is a part of.

    Without what makes one a part of the other, the marks in comments, and each partition's own extended statistics.
    """
    parts = rows(conn, PARTS.replace("%", "%%"), ())
    found = set()
    for entry in entries:
        text = entry.text
        if entry.kind in ("TABLE ATTACH", "INDEX ATTACH") or OWN.search(text):
            continue
        for part, whole, bare_part, bare_whole in parts:
            text = text.replace(part, whole)
            text = re.sub(rf"(CONSTRAINT|INDEX) {re.escape(bare_part)}(?=[ ;])", rf"\1 {bare_whole}", text)
        found.add(Entry(entry.kind, entry.owner, plain(text)))
    return found


def plain(text: str) -> str:
    """Without what is only another way to say the same: ONLY, a default with a statement of its own, merged grants."""
    text = re.sub(r"(ALTER TABLE|ON) ONLY ", r"\1 ", text)
    if "CREATE TABLE" in text:
        # A partition's constraint bears the table's name, which is not what PostgreSQL would call it.
        text = re.sub(r' CONSTRAINT (?:"[^"]*_not_null"|[^"\s]+_not_null) NOT NULL', " NOT NULL", text)
        return re.sub(r" DEFAULT nextval\('[^']*'::regclass\)", "", text)
    if not GRANT.match(text):
        return text
    single = [
        f"GRANT {privilege} {rest}"
        for privileges, rest in GRANT.findall(BY_ANOTHER.sub("", text))
        for privilege in re.split(r",(?![^(]*\))", privileges)
    ]
    return "\n".join(sorted({*single, *re.findall(r"^REVOKE .*$", text, re.MULTILINE)}))

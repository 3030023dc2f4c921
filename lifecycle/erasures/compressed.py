"""Compressed text, which the database cannot read: unpacked here and searched for the people of a batch.

Streamed value by value, with a limit for what one may unpack to. Words are compared in memory and leave it nowhere:
what is written and returned are counts per table and column.
"""

import re
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from types import MappingProxyType
from typing import Final

import psycopg
from psycopg import sql

from lifecycle.database import Connection, rows, value

# Until the transaction ends nobody else takes the batch, however long it lasts.
RENEW: Final = "select lifecycle.renew_erasure_lease(%s)"
# What the database searches with, too.
NEEDLES: Final = """
select n.odd_words,
       array(select lifecycle.whole_word_pattern(o.word)
               from unnest(n.odd_words) with ordinality o(word, place) order by o.place),
       lifecycle.id_pattern(), lifecycle.address_pattern(), lifecycle.identifier_hint(),
       n.session_length, lifecycle.session_pattern(n.session_length)
  from lifecycle.needles_of(%(batch)s) n
"""
# Its words, each with the jobs that it stands for.
WORDS: Final = """
select lower(k.key), array_agg(distinct k.job_id)
  from lifecycle.erasure_needles n
  join lifecycle.deletion_jobs j on j.batch_id = n.batch_id and j.state = 'erased'
  join lifecycle.searched_keys(array[j.id]) k on lower(k.key) = any (n.words)
 where n.batch_id = %(batch)s group by 1
"""
COLUMNS: Final = """
select s.relation::oid::bigint, s.table_name, s.column_name,
       (lifecycle.treatment_of(s.table_name, s.column_name)).treatment
  from lifecycle.searched_columns() s
 where s.type_name = 'bytea'
   and not exists (select from lifecycle.erasure_unread u join lifecycle.deletion_jobs j on j.id = u.job_id
                    where j.batch_id = %(batch)s and u.table_name = s.table_name)
 order by 2, 3
"""
UNREAD: Final = "select lifecycle.note_unread(%s, %s::oid::regclass, %s, %s)"
TRANSIENT: Final = "select lifecycle.is_transient(%s)"
QUALIFIED: Final = """
select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = %s::oid
"""
STREAM: Final = sql.SQL(
    "copy (select t.{column} from {table} t where substring(t.{column} from 1 for 2) = '\\x1f8b') "
    "to stdout (format binary)"
)
RECORD: Final = """
insert into lifecycle.erasure_findings as f (batch_id, job_id, table_name, column_name, treatment, rows)
values (%s, %s, %s, %s, %s, %s)
on conflict (batch_id, job_id, table_name, column_name, treatment) do update set rows = f.rows + excluded.rows
"""
GZIP: Final = zlib.MAX_WBITS + 16
# What begins like gzip by chance, such as a hash, is no text that could be damaged: RFC 1952 leaves few values for
# flags, level and system.
HEADER: Final = re.compile(rb"\x1f\x8b\x08[\x00-\x1f].{4}[\x00\x02\x04][\x00-\x0d\xff]", re.DOTALL)
# A message of a chat has thousands of characters. A value that unpacks to more than this is not read to its end.
LARGEST_TEXT: Final = 64 * 1024 * 1024
PIECE: Final = 1024 * 1024
LONGEST_WORD: Final = 320
# An address is looked for around its sign alone, so far as one can reach: a pattern that starts at each letter of a
# long run would take its square in time.
BEFORE_AT: Final = 320
BEHIND_AT: Final = 256
# The first letter of a run, or an escape: whatever begins behind it ends at the same sign, and fails like it.
BEGINNING: Final = rb"(?:(?=[\\%])|(?<![A-Za-z0-9_]))"
ESCAPE: Final = 6
AT: Final = re.compile(rb"@|%40")


@dataclass(frozen=True)
class Unpacked:
    """The text of one value. `complete` is False when it is damaged, cut off or larger than the limit."""

    text: bytes
    complete: bool


@dataclass(frozen=True)
class Words:
    """What the people of a batch are recognised by, in lower case, with the jobs behind each word.

    The patterns are those of lifecycle.words_in(): of an address and of a session name, part 1 is an escape to which
    its first letters may belong. `odd` words have a form that no pattern knows, and are looked for as they are.
    """

    jobs: Mapping[bytes, frozenset[int]]
    id: re.Pattern[bytes]
    address: re.Pattern[bytes]
    hint: re.Pattern[bytes]
    session: re.Pattern[bytes] | None = None
    long_word: re.Pattern[bytes] | None = None
    odd: Mapping[bytes, re.Pattern[str]] = field(default_factory=dict)

    @classmethod
    def compiled(
        cls,
        jobs: Mapping[bytes, frozenset[int]],
        patterns: Sequence[str],
        shortest_session: int | None = None,
        session: str | None = None,
        odd: Mapping[str, str] = MappingProxyType({}),
    ) -> "Words":
        """Words with the database's patterns of an id, of an address, and of what either cannot be without."""
        id_pattern, address, hint = (pattern.encode() for pattern in patterns)
        return cls(
            jobs=jobs,
            id=re.compile(id_pattern),
            address=re.compile(BEGINNING + address),
            hint=re.compile(hint),
            session=re.compile(session.encode()) if session else None,
            long_word=re.compile(b"[A-Za-z0-9_-]{%d,}" % shortest_session) if shortest_session else None,
            odd={word.encode(): re.compile(pattern) for word, pattern in odd.items()},
        )

    def found_in(self, text: bytes) -> set[int]:
        """The jobs whose people stand in a text."""
        found = {text.lower()} if len(text) <= LONGEST_WORD else set()
        if self.hint.search(text):
            found |= {hit.group().lower() for hit in self.id.finditer(text)}
        behind = 0
        for start, end in _around(AT.finditer(text), len(text)):
            # The domain before may be a part of this address, or the end of the one before.
            whole = list(self.address.finditer(text, start, end))
            rest = self.address.finditer(text[max(start, behind) : end])
            behind = max([behind, *(hit.end() for hit in whole)])
            for word in _both_ways(chain(whole, rest)):
                found.add(word.replace(b"%40", b"@").replace(b"%2b", b"+"))
        if self.session is not None and self.long_word is not None:
            for run in self.long_word.finditer(text):
                start = max(run.start() - ESCAPE, 0)
                found.update(_both_ways(self.session.finditer(text, start, run.end())))
        if self.odd:
            lowered = text.decode("utf-8", "replace").lower()
            found |= {word for word, pattern in self.odd.items() if pattern.search(lowered)}
        return set().union(*(self.jobs[word] for word in found if word in self.jobs))


def _around(signs: Iterator[re.Match[bytes]], length: int) -> Iterator[tuple[int, int]]:
    """Where the address of each sign may begin and end: between its neighbours, of which none can be a part of it."""
    behind, sign = 0, next(signs, None)
    while sign is not None:
        following = next(signs, None)
        last = following.start() if following else length
        yield max(behind, sign.start() - BEFORE_AT), min(last, sign.end() + BEHIND_AT)
        # An escaped sign may be one of the address behind it, instead.
        behind, sign = sign.start() if sign.group() != b"@" else sign.end(), following


@dataclass(frozen=True)
class CompressedSearch:
    """What was unpacked: columns looked at, values, bytes of text in them, values that could not be read to their end
    (`unreadable`), and values that only begin like compressed ones and were searched as they stand."""

    columns: int = 0
    values: int = 0
    bytes: int = 0
    unreadable: int = 0
    not_compressed: int = 0
    milliseconds: int = 0


@dataclass
class _ColumnCount:
    values: int = 0
    bytes: int = 0
    unreadable: int = 0
    not_compressed: int = 0
    hits: Counter[int] = field(default_factory=Counter)


def unpack(packed: bytes, limit: int = LARGEST_TEXT) -> Unpacked:
    """Gunzip one value, of several members if need be, to no more than `limit` bytes."""
    pieces: list[bytes] = []
    size, rest = 0, packed
    while rest:
        member = zlib.decompressobj(GZIP)
        try:
            while not member.eof and size <= limit:
                piece = member.decompress(rest, PIECE)
                rest = member.unconsumed_tail
                size += len(piece)
                pieces.append(piece)
                if not piece and not rest:
                    break
        except zlib.error:
            return Unpacked(b"".join(pieces), False)
        if not member.eof or size > limit:
            return Unpacked(b"".join(pieces)[:limit], False)
        rest = member.unused_data.lstrip(b"\0")
    return Unpacked(b"".join(pieces), True)


def _both_ways(hits: Iterator[re.Match[bytes]]) -> Iterator[bytes]:
    """Each word without the escape before it, and with its letters."""
    for hit in hits:
        yield hit.group(2).lower()
        if hit.group(1) is not None:
            yield (hit.group(1)[1:] + hit.group(2)).lower()


def words_of_batch(conn: Connection, batch: str) -> Words:
    """A batch's words and the patterns that the database searches with; makes them once, as the database does."""
    odd, odd_patterns, *patterns, shortest, session = rows(conn, NEEDLES, {"batch": batch})[0]
    jobs = {word.encode(): frozenset(jobs) for word, jobs in rows(conn, WORDS, {"batch": batch})}
    return Words.compiled(jobs, patterns, shortest, session, dict(zip(odd, odd_patterns, strict=True)))


def search_compressed(
    conn: Connection,
    batch: str,
    *,
    progress: Callable[[str, float], None] = lambda _message, _fraction: None,
    limit: int = LARGEST_TEXT,
) -> CompressedSearch:
    """Search every compressed value of every column of bytes; findings go where lifecycle.search_relation() puts them.

    In a column that may name the person (`exempt`) a find or an unreadable value is counted. In any other both count as
    something left, and fail the job when it is concluded: what is compressed cannot be redacted. Call it in one
    transaction, which keeps the batch; nothing but the findings is written, and which column cannot be read: its jobs
    wait for it. Raises psycopg.Error for what passes by itself, also when another worker has the batch by now.
    """
    started = time.monotonic()
    conn.execute(RENEW.encode(), (batch,))
    words = words_of_batch(conn, batch)
    everybody = frozenset().union(*words.jobs.values())
    columns = rows(conn, COLUMNS, {"batch": batch})
    total = CompressedSearch()
    for number, (relation, table, column, treatment) in enumerate(columns):
        progress(f"unpacking {table}.{column}", number / len(columns))
        try:
            with conn.transaction():
                count = _search_column(conn, relation, column, words, limit)
        except psycopg.Error as error:
            # Its message might quote what it choked on.
            code = error.sqlstate or ""
            if conn.closed or value(conn, TRANSIENT, (code,)):
                raise
            conn.execute(UNREAD.encode(), (batch, relation, code, f"unpacking {column}: SQLSTATE {code}"))
            continue
        exempt = treatment == "exempt"
        if count.unreadable and not exempt:
            count.hits.update(dict.fromkeys(everybody, count.unreadable))
        for job, hits in count.hits.items():
            conn.execute(RECORD.encode(), (batch, job, table, column, "exempt" if exempt else "residual", hits))
        total = replace(
            total,
            columns=number + 1,
            values=total.values + count.values,
            bytes=total.bytes + count.bytes,
            unreadable=total.unreadable + count.unreadable,
            not_compressed=total.not_compressed + count.not_compressed,
        )
    return replace(total, milliseconds=round((time.monotonic() - started) * 1000))


def _search_column(conn: Connection, relation: int, column: str, words: Words, limit: int) -> _ColumnCount:
    count = _ColumnCount()
    schema, table = rows(conn, QUALIFIED, (relation,))[0]
    query = STREAM.format(table=sql.Identifier(schema, table), column=sql.Identifier(column))
    with conn.cursor().copy(query) as copy:
        copy.set_types(["bytea"])
        for (packed,) in copy.rows():
            count.values += 1
            text = packed
            if HEADER.match(packed):
                unpacked = unpack(packed, limit)
                text = unpacked.text
                count.bytes += len(text)
                count.unreadable += not unpacked.complete
            else:
                count.not_compressed += 1
            count.hits.update(words.found_in(text))
    return count

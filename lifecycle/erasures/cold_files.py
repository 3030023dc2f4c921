"""The people of a batch in cold months: their rows are taken out of the files, so that the steps of the map find them.

Rows by key first, before the steps run; rows with a person's word in a text once the batch's words are known. What
is left in files names nobody of the batch then, and the files that did are gone from the store before a receipt is
written.
"""

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from lifecycle.cold import manifest
from lifecycle.cold.columns import ColdColumn
from lifecycle.cold.manifest import ManifestFile
from lifecycle.cold.search import (
    KeyCondition,
    TextHints,
    conditions_within,
    duckdb_of,
    rows_with_keys,
    rows_with_words,
    values_of_rows,
)
from lifecycle.cold.storage import ColdStorage
from lifecycle.cold.sweep import give_up_dead_moves, remove_retired
from lifecycle.cold.tables import no_storage
from lifecycle.cold.thaw import thaw
from lifecycle.database import Connection, rows, value
from lifecycle.declarations.personal_data import PERSON
from lifecycle.erasures.compressed import words_of_batch
from lifecycle.errors import BusyError, ColdStorageError, LifecycleError
from lifecycle.names import QualifiedName

if TYPE_CHECKING:
    import duckdb

Outcome = TypeVar("Outcome", covariant=True)
Found = TypeVar("Found")


class Find(Protocol[Outcome]):
    """What is looked for in one file: the DuckDB that reads it, its place for read_parquet, its row of the manifest and
    its columns. Several are searched at once, each in a thread of its own."""

    def __call__(
        self, duck: "duckdb.DuckDBPyConnection", place: str, file: ManifestFile, columns: tuple[ColdColumn, ...], /
    ) -> Outcome: ...


HAS_MANIFEST: Final = "select to_regclass('lifecycle.cold_files') is not null"
RENEW: Final = "select lifecycle.renew_erasure_lease(%s)"
# What a step changes, what gives a key, and who else has one: column, column that has to be empty, kind of key, and
# whether it is compared in lower case.
CONDITIONS: Final = """
select s.key_column, s.unowned_column, s.key_kind, false from lifecycle.erasure_steps s where s.table_name = %(table)s
 union
select s.by_column, null, k.kind, s.any_case
  from lifecycle.erasure_key_sources s cross join unnest(s.key_kinds) k(kind) where s.table_name = %(table)s
 union
select l.column_name, null, l.kind, false
  from lifecycle.erasure_key_limits l where l.table_name = %(table)s and l.column_name is not null
"""
KEYS: Final = """
select k.kind, lifecycle.keys_of(%(jobs)s, k.kind)
  from (select e.kind from lifecycle.erasure_key_kinds e union select %(person)s) k(kind)
"""
# Keys that rows of a table give (table and columns), or keys of another kind (neither); `pattern` is their form.
GIVERS: Final = """
select s.kind, s.key_kinds, s.table_name, s.by_column, s.taken_column, case when s.bound then null else k.pattern end,
       s.any_case
  from lifecycle.erasure_key_sources s join lifecycle.erasure_key_kinds k on k.kind = s.kind
 order by k.position, s.position
"""
HINTS: Final = """
select n.words, n.odd_words, n.session_length, n.session_start, lifecycle.id_pattern() from lifecycle.needles_of(%s) n
"""
# Of lifecycle.identifier_hint() the part of an id; the signs of an address are looked for as they are.
ID_HINT: Final = "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-"
SIGNS: Final = ("@", "%40")
# What a scrubbed row holds instead of a name; it is nobody's key.
ERASED: Final = "erased"
LOCK_NOT_AVAILABLE: Final = "55P03"
# So many files are searched at a time: one is of so few rows that DuckDB reads it in one thread.
AT_ONCE: Final = 4
# So far keys lead to keys that lead to keys in one table.
CHAIN: Final = 3


@dataclass
class ColdErasure:
    """What was done in cold files for a batch: files looked through, written anew, removed, and rows taken out of them.

    `searched` are the ids of the files that are known to hold nobody of the batch.
    """

    files: int = 0
    rewritten: int = 0
    removed: int = 0
    rows: int = 0
    milliseconds: int = 0
    searched: set[int] = field(default_factory=set)

    def told(self) -> dict[str, object]:
        """As the receipt says it, with the files that its transaction compares with those that there are."""
        counts = {name: getattr(self, name) for name in ("files", "rewritten", "removed", "rows", "milliseconds")}
        return counts | {"searched": sorted(self.searched)}


@dataclass(frozen=True)
class ColdPeople:
    """The search for a batch's people in cold months. `storage` is None where none is configured."""

    conn: Connection
    batch: str
    jobs: list[int]
    storage: ColdStorage | None
    progress: Callable[[str, float], None]
    done: ColdErasure = field(default_factory=ColdErasure)

    def thaw_rows_by_key(self) -> bool:
        """Take out the rows that have a key of the batch; whether there were any, which may tell of further keys.

        Keys that these rows will give are looked for first, so that no file is written anew for them once more.
        """
        before = self.done.rows
        files = self._live()
        keys = self._keys()
        for _ in range(CHAIN):
            if not self._widen(files, keys):
                break
        conditions = self._conditions(files, keys)

        def find(
            duck: "duckdb.DuckDBPyConnection", place: str, file: ManifestFile, columns: tuple[ColdColumn, ...]
        ) -> set[int]:
            return rows_with_keys(duck, place, conditions_within(conditions[file.relation], columns))

        self._pass(files, find)
        return self.done.rows > before

    def thaw_rows_by_word(self) -> bool:
        """Take out the rows in which somebody's word stands; afterwards every file there is has been searched."""
        before = self.done.rows
        if not (files := [file for file in self._live() if file.id not in self.done.searched]):
            return False
        words, odd, shortest, start, id_pattern = rows(self.conn, HINTS, (self.batch,))[0]
        finder = words_of_batch(self.conn, self.batch)
        any_session = f"[A-Za-z0-9_-]{{{shortest},}}" if shortest and not start else None
        hints = TextHints(
            words=tuple(words),
            id_pattern=id_pattern,
            id_hint=ID_HINT,
            contained=(*SIGNS, *odd, *([start] if shortest and start else [])),
            pattern=any_session,
        )
        conditions = self._conditions(files, self._keys())

        def find(
            duck: "duckdb.DuckDBPyConnection", place: str, file: ManifestFile, columns: tuple[ColdColumn, ...]
        ) -> set[int]:
            by_key = rows_with_keys(duck, place, conditions_within(conditions[file.relation], columns))
            return by_key | rows_with_words(duck, place, columns, hints, finder)

        self.done.searched |= self._pass(files, find)
        self.done.files = len(self.done.searched)
        return self.done.rows > before

    def remove(self) -> bool:
        """Remove from the store whatever nobody reads any more, also what moves left that will not go on."""
        removed = 0
        if self.storage is not None and value(self.conn, HAS_MANIFEST):
            give_up_dead_moves(self.conn)
            removed = remove_retired(self.conn, self.storage)
        self.done.removed += removed
        return removed > 0

    def _live(self) -> list[ManifestFile]:
        if not value(self.conn, HAS_MANIFEST):
            return []
        return list(manifest.all_live_files(self.conn))

    def _keys(self) -> dict[str, set[str]]:
        params = {"jobs": self.jobs, "person": PERSON}
        return {kind: set(keys or ()) for kind, keys in rows(self.conn, KEYS, params)}

    def _widen(self, files: list[ManifestFile], keys: dict[str, set[str]]) -> bool:
        """Add the keys that rows in files would give; whether there were any. The database decides which to follow."""
        before = sum(map(len, keys.values()))
        for kind, by_kinds, table, by, taken, pattern, any_case in rows(self.conn, GIVERS):
            known = tuple(set().union(*(keys[each] for each in by_kinds)))
            if table is None:
                keys[kind].update(known)
                continue
            take = partial(_keys_of_file, KeyCondition(by, known, any_case=any_case), taken, pattern)
            for _, found in self._read([file for file in files if str(file.relation) == table], take):
                keys[kind] |= found
        return sum(map(len, keys.values())) > before

    def _conditions(
        self, files: list[ManifestFile], keys: dict[str, set[str]]
    ) -> dict[QualifiedName, list[KeyCondition]]:
        return {relation: key_conditions(self.conn, relation, keys) for relation in {file.relation for file in files}}

    def _pass(self, files: list[ManifestFile], find: Find[set[int]]) -> set[int]:
        """Take out of each file what is found there; the ids of files that hold none of it."""
        clean: set[int] = set()
        for file, positions in self._read(files, find):
            if not positions:
                clean.add(file.id)
                continue
            thawed = thaw(self.conn, self._required_storage(file), file, positions)
            self.done.rows += thawed.rows
            self.done.rewritten += 1
            if thawed.replacement is not None:
                clean.add(thawed.replacement)
        return clean

    def _read(self, files: list[ManifestFile], find: Find[Found]) -> Iterator[tuple[ManifestFile, Found]]:
        """What is found in each file, in their order; the next ones are searched while the caller deals with one."""
        if not files:
            return
        storage = self._required_storage(files[0])
        columns = {layout: manifest.columns_of(self.conn, layout) for layout in {file.layout for file in files}}
        started = time.monotonic()

        def one(file: ManifestFile) -> Found:
            with closing(duck.cursor()) as own:
                own.execute("set timezone = 'UTC'")
                return find(own, storage.location(file.key), file, columns[file.layout])

        with duckdb_of(storage) as duck:
            pool = ThreadPoolExecutor(AT_ONCE)
            try:
                for number, (file, found) in enumerate(zip(files, pool.map(one, files), strict=True)):
                    self.progress(f"cold files of {file.relation} {file.month:%Y-%m}", number / len(files))
                    self.conn.execute(RENEW.encode(), (self.batch,))
                    yield file, found
            finally:
                pool.shutdown(cancel_futures=True)
        self.done.milliseconds += round((time.monotonic() - started) * 1000)

    def _required_storage(self, file: ManifestFile) -> ColdStorage:
        if self.storage is None:
            raise no_storage(file.relation)
        return self.storage


def key_conditions(
    conn: Connection, relation: QualifiedName, keys: Mapping[str, Collection[str]]
) -> list[KeyCondition]:
    """By what rows of an event table are found in files: those that a step of the map changes, that give a key, and
    that tell who else has one. `keys` by kind; an id stands in files in lower case."""
    return [
        KeyCondition(column, tuple({*keys.get(kind, ()), *map(str.lower, keys.get(kind, ()))}), unowned, any_case)
        for column, unowned, kind, any_case in rows(conn, CONDITIONS, {"table": str(relation)})
    ]


def _keys_of_file(
    condition: KeyCondition,
    column: str,
    pattern: str | None,
    duck: "duckdb.DuckDBPyConnection",
    place: str,
    _file: ManifestFile,
    stored: tuple[ColdColumn, ...],
) -> set[str]:
    held = {each.now: each.name for each in stored}
    met = conditions_within([condition], stored)
    if not met or column not in held:
        return set()
    given = values_of_rows(duck, place, met[0], held[column])
    return {key for key in given if key != ERASED and (pattern is None or fits(key, pattern))}


def fits(key: str, pattern: str) -> bool:
    """Whether a key has the declared form; one that Python reads otherwise is left to the database."""
    try:
        return re.fullmatch(pattern, key) is not None
    except re.error:
        return True


def failure_in_cold_files(error: Exception) -> tuple[str, str]:
    """What to tell of an error, without a value that it may quote, and its SQLSTATE: a store that is away passes."""
    passes = isinstance(error, BusyError | ColdStorageError)
    code = LOCK_NOT_AVAILABLE if passes else getattr(error, "sqlstate", None) or ""
    told = str(error) if isinstance(error, LifecycleError) else f"{type(error).__name__} {code}".strip()
    return f"cold files: {told}", code

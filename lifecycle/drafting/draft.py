"""The whole draft of one database: what is proposed for each file, written beside what a person wrote."""

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lifecycle.checking.catalog import read_catalog
from lifecycle.checking.relations import live_relations, relations_text
from lifecycle.database import Connection, value
from lifecycle.declarations.application import Application
from lifecycle.declarations.database import Database
from lifecycle.declarations.loader import RELATIONS_FILE, load_application
from lifecycle.drafting import archives, events, exposed, personal_map, platform, views
from lifecycle.drafting.entry import Entry, Remark
from lifecycle.drafting.files import SECTIONS, fresh, keys_in, merged
from lifecycle.drafting.measure import Cost
from lifecycle.drafting.survey import Survey, survey
from lifecycle.errors import DeclarationError, RefusedError
from lifecycle.language import Phrase, _, translatable

ABOUT: Final = {each.FILE: each.ABOUT for each in (platform, events, personal_map, views, archives, exposed)}
READ_ONLY: Final = "set transaction isolation level repeatable read, read only"
LIMITS: Final = "set local statement_timeout = '60s'; set local lock_timeout = '1s'; set local timezone = 'UTC'"
TIME_ZONE: Final = "select reset_val from pg_settings where name = 'TimeZone'"
LOOKING: Final = translatable("Looking at tables, foreign keys and statistics")
DRAFTING: Final = translatable("Drafting {file}")


@dataclass(frozen=True)
class DraftedFile:
    """One file: its text to write, and how many of its entries are in force, proposed, and new since it was written.

    `existed`: a person may have changed it. `gone` are keys that name nothing in the database any more.
    """

    name: str
    text: str
    existed: bool
    in_force: int
    proposed: int
    new: tuple[str, ...]
    gone: tuple[str, ...]


@dataclass(frozen=True)
class Draft:
    """All files of a folder, the columns as last seen, what each view cost, and what the role may not see."""

    files: tuple[DraftedFile, ...]
    relations: str
    costs: tuple[Cost, ...]
    missing: tuple[Phrase, ...]
    tables: int


def usable_folder(folder: Path) -> None:
    """Make the folder; RefusedError where declarations cannot be written there."""
    if folder.exists() and not folder.is_dir():
        raise RefusedError(
            Phrase("{folder} is a file: name a folder, which is made where there is none", folder=folder)
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise RefusedError(
            Phrase("{folder} lies in a file, not in a folder: name another one", folder=folder)
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RefusedError(
            Phrase(
                "{folder} cannot be written into: name another one, or ask its owner for the right to", folder=folder
            )
        )


def draft(conn: Connection, folder: Path, seconds: float, tell: Callable[[str], None]) -> Draft:
    """Look at the database and at the folder; writes nothing anywhere.

    Each view is read once, for `seconds` at most, none where that is 0. `tell` hears what is done now. Raises
    DeclarationError where a file that is there already cannot be read.
    """
    before = load_application(folder)
    tell(_(LOOKING))
    with conn.transaction():
        conn.execute(READ_ONLY)
        conn.execute(LIMITS)
        found = _without_declared(survey(conn, before.database.managed_schemas), before)
        entries: list[Entry | Remark] = list(platform.database(found, value(conn, TIME_ZONE)))
        tell(_(DRAFTING).format(file="event_tables.yaml"))
        entries += events.event_tables(conn, found)
        tell(_(DRAFTING).format(file="personal_data.yaml"))
        entries += personal_map.personal_data(conn, found)
        entries += archives.archives(found)
        entries += views.materialized_views(conn, found)
        tell(_(DRAFTING).format(file="access.yaml"))
        entries += exposed.exposed_objects(conn, found)
        known = frozenset(map(str, (catalog := read_catalog(conn)).relations)) | frozenset(map(str, catalog.functions))
        live = live_relations(conn, Application(database=Database(managed_schemas=found.managed)))
    # Outside of it: a transaction that stays open for minutes keeps the server from tidying up.
    kept, costs = views.heavy_views(conn, found, seconds, tell)
    files = tuple(_file(folder, name, [*entries, *kept], known) for name in SECTIONS)
    _must_load(folder, {f"{file.name}.yaml": file.text for file in files})
    return Draft(files, relations_text(live), tuple(costs), found.missing, len(found.tables))


def _without_declared(found: Survey, before: Application) -> Survey:
    """Archives and views that the declarations make are ours, not the application's."""
    made = {
        name
        for table in before.archived_tables.values()
        for name in (table.archive, table.recent_view)
        if name is not None
    }
    kept = {name: relation for name, relation in found.relations.items() if name not in made}
    return Survey(found.managed, found.sign_ins, kept, found.references, found.missing)


def _file(folder: Path, name: str, entries: Iterable[Entry | Remark], known: frozenset[str]) -> DraftedFile:
    mine = [entry for entry in entries if isinstance(entry, Entry) and entry.file == name]
    path = folder / f"{name}.yaml"
    if path.is_file():
        text, new = merged(path.read_text(encoding="utf-8"), name, mine)
    else:
        remarks = [entry for entry in entries if isinstance(entry, Remark) and entry.file == name]
        text, new = fresh(name, ABOUT[name], mine, remarks), ()
    keys = [key for key in keys_in(text, name) if key.section or "" in SECTIONS[name][:1]]
    heads = set(SECTIONS[name])
    told = [key for key in keys if key.section or key.name not in heads]
    gone = [
        key.name
        for key in told
        if key.relation is not None and str(key.relation) not in known and not _optional(key.value)
    ]
    return DraftedFile(
        name=name,
        text=text,
        existed=path.is_file(),
        in_force=sum(key.in_force for key in told),
        proposed=sum(not key.in_force for key in told),
        new=tuple(entry.key for entry in new),
        gone=tuple(gone),
    )


def _optional(declared: object) -> bool:
    return isinstance(declared, dict) and declared.get("optional") is True


def _must_load(folder: Path, texts: Mapping[str, str]) -> None:
    """What is to be written has to be declarations that load, beside the files that stay as they are."""
    with tempfile.TemporaryDirectory() as place:
        for path in (*folder.glob("*.yaml"), *folder.glob("*.sql")):
            (Path(place) / path.name).write_bytes(path.read_bytes())
        for name, text in texts.items():
            (Path(place) / name).write_text(text, encoding="utf-8")
        try:
            load_application(Path(place))
        except DeclarationError as error:
            raise RefusedError(f"the draft would not load, so nothing was written: {error}") from error


def write(folder: Path, drafted: Draft) -> Sequence[str]:
    """Write what differs, each file whole or not at all; the names of those that were written."""
    texts = {f"{file.name}.yaml": file.text for file in drafted.files} | {RELATIONS_FILE: drafted.relations}
    written = []
    for name, text in texts.items():
        path = folder / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        beside = folder / f".{name}.new"
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
        written.append(name)
    return written

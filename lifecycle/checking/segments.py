"""segments.yaml against the database."""

from collections.abc import Iterator
from typing import Final

from lifecycle.checking.catalog import Catalog
from lifecycle.checking.mismatch import Mismatch
from lifecycle.checking.needed import Needed
from lifecycle.declarations.application import Application

FILE: Final = "segments.yaml"
CAPABILITY: Final = "segments"
DOCUMENT: Final = "jsonb"


def needed_segment_tables(application: Application) -> Iterator[Needed]:
    """The accounts, and the tables whose changes ask for somebody's segments."""
    segments = application.segments
    if segments.accounts:
        yield Needed(CAPABILITY, FILE, segments.accounts.table, (segments.accounts.key,))
    for source_name, kind, source in segments.sources():
        within = ("tastes", source_name) if kind == "taste" else (source_name,)
        for name, watch in () if source.gone else source.watches.items():
            account = (watch.account,) if watch.account else (watch.through.by,) if watch.through else ()
            # An optional source may find its table in another form: then it is not read, and nothing is missed.
            columns = () if source.optional else (*account, *watch.columns)
            yield Needed(CAPABILITY, FILE, name, columns, source.optional, within)


def no_target(application: Application, catalog: Catalog) -> Iterator[Mismatch]:
    """Of several places where segments may stand, one has to exist."""
    targets = application.segments.targets
    if targets and not any(
        target.table in catalog.relations and target.column in catalog.relations[target.table].columns
        for target in targets
    ):
        named = ", ".join(f"{target.table}.{target.column}" for target in targets)
        yield Mismatch(
            CAPABILITY,
            named,
            f"none of them exists: name in {FILE} where segments stand now, and what tells consent there",
            FILE,
            ("targets",),
            _proposal(application, catalog),
        )


def _proposal(application: Application, catalog: Catalog) -> str:
    """A document of the accounts' own table, without anybody's consent until somebody says what tells it."""
    accounts = application.segments.accounts
    if accounts is None or accounts.table not in catalog.relations:
        return ""
    documents = [name for name, kind in catalog.relations[accounts.table].columns.items() if kind == DOCUMENT]
    return "".join(
        f'- {{table: {accounts.table}, key: {accounts.key}, column: {name}, path: [segments], consent: "false"}}\n'
        for name in documents[-1:]
    )

"""An index as declared, with its name, and what the project holds about small tables."""

from dataclasses import dataclass
from typing import Final

from lifecycle.declarations.application import Application
from lifecycle.declarations.indexes import HotQuery
from lifecycle.names import QualifiedName

# Below so many rows reading the whole table is right, whatever indexes there are.
REPRESENTATIVE_ROWS: Final = 10_000


@dataclass(frozen=True)
class Index:
    """An index on a plain table. `keys` and `predicate` are SQL; `{extension}` in `keys` is the extension's schema."""

    name: str
    table: QualifiedName
    keys: str
    reason: str
    method: str = "btree"
    predicate: str | None = None
    extension: str | None = None
    query: HotQuery | None = None
    optional: bool = False

    @property
    def qualified_name(self) -> QualifiedName:
        """An index lies in the schema of its table."""
        return QualifiedName(self.table.schema, self.name)


def declared_indexes(application: Application) -> tuple[Index, ...]:
    """Every index that indexes.yaml names."""
    return tuple(
        Index(
            name,
            declared.table,
            declared.keys,
            declared.why,
            declared.method,
            declared.predicate,
            declared.extension,
            declared.query,
            declared.optional,
        )
        for name, declared in application.indexes.indexes.items()
    )


def hot_query_indexes(application: Application) -> tuple[Index, ...]:
    """Those that a query of the application is for."""
    return tuple(index for index in declared_indexes(application) if index.query)

"""What an export has written: per table its files, its rows and how they were found."""

from dataclasses import dataclass

from lifecycle.person_export.tables import ExportedTable


@dataclass(frozen=True)
class Found:
    """How many rows were found by one column, with a key of this kind; `cold` of them come from cold months."""

    by: str
    kind: str
    rows: int
    cold: int = 0


@dataclass(frozen=True)
class Written:
    """What became of one table: the stem of its files, "" without rows, and how they were found."""

    table: ExportedTable
    stem: str
    found: tuple[Found, ...]

    @property
    def rows(self) -> int:
        return sum(way.rows for way in self.found)

    @property
    def by_way(self) -> tuple[Found, ...]:
        """One for each column and kind of key that found rows."""
        ways: dict[tuple[str, str], Found] = {}
        for way in (way for way in self.found if way.rows):
            before = ways.get((way.by, way.kind), Found(way.by, way.kind, 0))
            ways[way.by, way.kind] = Found(way.by, way.kind, before.rows + way.rows, before.cold + way.cold)
        return tuple(ways.values())

    @property
    def cold(self) -> int:
        """Rows from cold months among them."""
        return sum(way.cold for way in self.found)

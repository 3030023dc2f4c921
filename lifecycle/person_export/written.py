"""What an export has written: per table its files, its rows and how they were found."""

from dataclasses import dataclass

from lifecycle.person_export.tables import ExportedTable


@dataclass(frozen=True)
class Found:
    """How many rows were found by one column, with a key of this kind."""

    by: str
    kind: str
    rows: int


@dataclass(frozen=True)
class Written:
    """What became of one table: the stem of its files, "" without rows, and how they were found."""

    table: ExportedTable
    stem: str
    found: tuple[Found, ...]

    @property
    def rows(self) -> int:
        return sum(way.rows for way in self.found)

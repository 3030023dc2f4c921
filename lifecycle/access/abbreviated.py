"""The matrix short enough to be read at a glance: a letter a verb, one line an object."""

import re
from collections.abc import Sequence
from typing import Final

from lifecycle.access.matrix import MatrixRow
from lifecycle.language import translatable

LETTERS: Final = {
    "SELECT": "S",
    "INSERT": "I",
    "UPDATE": "U",
    "DELETE": "D",
    "TRUNCATE": "T",
    "REFERENCES": "R",
    "TRIGGER": "G",
    "MAINTAIN": "M",
    "EXECUTE": "X",
}
# Together, over every row, they leave nothing out that matters.
EVERYTHING: Final = frozenset("SIUDT")
ALL: Final = "all"
EVERY_ROW: Final = "every row"
GUARDS: Final = {"row-level security": "R", "owner's rights": "O", "caller's rights": "C", "none": "-", "": ""}
PART: Final = re.compile(r"([A-Z]+(?:, [A-Z]+)*) ?(.*)", re.DOTALL)
LEGEND: Final = (
    translatable("S SELECT, I INSERT, U UPDATE, D DELETE, T TRUNCATE, R REFERENCES, G TRIGGER,"),
    translatable("M MAINTAIN, X EXECUTE, all: every one. On every row where nothing follows."),
    translatable("by: R row-level security, O a view with its owner's rights, C with its caller's."),
)


def parts(cell: str) -> tuple[tuple[str, str], ...]:
    """(letters, which rows) of one cell of the matrix; no words for every row."""
    return tuple(_part(part) for part in cell.split("; ") if part)


def _part(part: str) -> tuple[str, str]:
    found = PART.fullmatch(part)
    if found is None:
        return part, ""
    letters = "".join(LETTERS.get(verb, f"[{verb}]") for verb in found[1].split(", "))
    words = "" if found[2] == EVERY_ROW else found[2]
    return (ALL if frozenset(letters) >= EVERYTHING and not words else letters), words


def short_cell(cell: str) -> str:
    """`S own rows; I in nobody else's name`."""
    return "; ".join(f"{letters} {words}".strip() for letters, words in parts(cell))


def short_object(row: MatrixRow) -> str:
    """Without the schema that everybody expects."""
    return row.object.removeprefix("public.")


class Notes:
    """Letters for which rows are meant, in the order in which they are first asked for."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def of(self, words: str) -> str:
        """The letter of these words: a to z, then aa, ab."""
        return self._letters.setdefault(words, _letter(len(self._letters)))

    def cell(self, cell: str) -> str:
        """`Sa Ib`: verbs, each with the letter of its rows."""
        return " ".join(f"{letters}{self.of(words) if words else ''}" for letters, words in parts(cell))

    @property
    def lines(self) -> Sequence[str]:
        """What each letter stands for."""
        return [f"{letter}  {words}" for words, letter in self._letters.items()]


def _letter(number: int) -> str:
    before, last = divmod(number, 26)
    return (_letter(before - 1) if before else "") + chr(ord("a") + last)

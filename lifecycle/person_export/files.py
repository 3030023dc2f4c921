"""The files of an export: readable for nobody but who made them, in a folder that did not exist before."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Final

from lifecycle.errors import RefusedError

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
# Spreadsheets read UTF-8 as something else unless it is marked.
MARK: Final = "\ufeff"
# A spreadsheet would run what begins so. Somebody may have typed it for whoever opens the file.
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Make the folder, and take it away again with all that is in it when the block fails.

    RefusedError when something is there already, or when the disk refuses it or a file in it.
    """
    try:
        folder.mkdir(mode=FOLDER_MODE)
    except FileExistsError:
        raise RefusedError(f"{folder}: is there already, and an export replaces nothing. Name another folder") from None
    except OSError as error:
        raise RefusedError(f"{folder}: cannot be made: {error.strerror}. Name another folder") from None
    try:
        yield folder
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise RefusedError(f"{folder}: cannot be written: {error.strerror}. Nothing of the export is left") from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def new_file(path: Path) -> IO[str]:
    """Open a new file for text that nobody else may read, not even for a moment."""
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), FILE_MODE)
    # Half of a surrogate pair is JSON and no UTF-8.
    return open(opened, "w", encoding="utf-8", errors="backslashreplace", newline="")


class TableFiles:
    """The rows of one table as JSON and as CSV, made with its first row."""

    def __init__(self, folder: Path, stem: str, columns: Sequence[str]) -> None:
        self._folder, self._stem = folder, stem
        self._names = [json.dumps(column, ensure_ascii=False) for column in columns]
        self._header = ",".join(map(_cell, columns))
        self._open: tuple[IO[str], IO[str]] | None = None
        self._closing = ExitStack()
        self.rows = 0

    def __enter__(self) -> "TableFiles":
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open[0].write("\n]\n")
        self._closing.close()

    def write(self, values: Sequence[str | None]) -> None:
        """One row, each value as JSON; None is null."""
        if self._open is None:
            self._open = self._begin()
        as_json, as_csv = self._open
        pairs = (f"{name}: {held or 'null'}" for name, held in zip(self._names, values, strict=True))
        as_json.write(("[\n{" if self.rows == 0 else ",\n{") + ", ".join(pairs) + "}")
        as_csv.write(",".join("" if held is None else _cell(_plain(held)) for held in values) + "\r\n")
        self.rows += 1

    def _begin(self) -> tuple[IO[str], IO[str]]:
        as_json, as_csv = (
            self._closing.enter_context(new_file(self._folder / f"{self._stem}.{end}")) for end in ("json", "csv")
        )
        as_csv.write(f"{MARK}{self._header}\r\n")
        return as_json, as_csv


def _plain(held: str) -> str:
    """A text as it was written, without the quotes of JSON; whatever else as it is."""
    if not held.startswith('"'):
        return held
    text = str(json.loads(held, strict=False))
    return f"'{text}" if text.startswith(FORMULA) else text


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'

"""The shipped declarations as a November without foresight would have them, and lines of `lifecycle check` pasted.

What only December has is left out; what November has is not optional.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from lifecycle.checking.mismatch import Mismatch
from lifecycle.declarations.loader import DEFAULT_FOLDER, RELATIONS_FILE


class Loader(yaml.SafeLoader):
    """`on` is a key here, as the project's own loader reads it."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if not tag.endswith(":bool") or first in "tTfF"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# Lists of columns in an entry of the map of personal data.
COLUMN_LISTS = ("redacted", "clean")


def columns_of_november() -> dict[str, set[str]]:
    """schema.json is as the application was in November; the platform's own tables are not in it."""
    relations = json.loads((DEFAULT_FOLDER / RELATIONS_FILE).read_text(encoding="utf-8"))
    known = {relation["name"]: {column["name"] for column in relation["columns"]} for relation in relations}
    # Made by us, and declared in access.yaml like the rest.
    made: dict[str, set[str]] = {
        name: set() for table in read(DEFAULT_FOLDER / "archive.yaml").values() for name in _made(table)
    }
    return known | made


def _made(table: Mapping[str, Any]) -> Iterable[str]:
    return (table[key] for key in ("archive", "recent_view") if key in table)


def _known(name: str, columns: Mapping[str, set[str]]) -> bool:
    return name in columns or not name.startswith("public.")


def _kept(value: Any, columns: Mapping[str, set[str]]) -> Any:
    if isinstance(value, list):
        return [_kept(item, columns) for item in value if not _leaves(item, columns)]
    if not isinstance(value, dict):
        return value
    return {key: _kept(held, columns) for key, held in value.items() if not _is_of_december(key, held, columns)}


def _is_of_december(key: str, held: Any, columns: Mapping[str, set[str]]) -> bool:
    if key in ("optional", "gone", "optional_columns"):
        return True
    if not isinstance(held, dict) or not held.get("optional"):
        return False
    watched = held.get("watches", {})
    if watched:
        return any(not set(watch.get("columns", ())) <= columns.get(name, set()) for name, watch in watched.items())
    named = str(held.get("table", key))
    return not _known(named, columns) and (named.startswith("public."))


def _leaves(item: Any, columns: Mapping[str, set[str]]) -> bool:
    if not isinstance(item, dict) or "table" not in item:
        return False
    needed = {item[part] for part in ("by", "take", "column", "owner") if part in item}
    name = item["table"]
    return not _known(name, columns) or (name in columns and not needed <= columns[name])


def november(folder: Path) -> Path:
    """Write the declarations of November into `folder`."""
    columns = columns_of_november()
    for file in DEFAULT_FOLDER.iterdir():
        if file.suffix != ".yaml":
            (folder / file.name).write_bytes(file.read_bytes())
            continue
        declared = _kept(read(file), columns)
        if file.stem == "personal_data":
            declared["keys"] = {kind: key for kind, key in declared["keys"].items() if key["from"]}
            for name, table in declared["tables"].items():
                _narrow(table, columns.get(name))
        if file.stem == "person_export":
            declared = {name: words for name, words in declared.items() if _known(name, columns)}
        if file.stem == "consent":
            for purpose in declared["purposes"].values():
                for name, table in purpose.get("tables", {}).items():
                    _narrow(table, columns.get(name))
                if "tables" in purpose:
                    purpose["tables"] = {name: table for name, table in purpose["tables"].items() if table["set"]}
        write(folder, file.name, declared)
    return folder


def _narrow(table: dict[str, Any], known: set[str] | None) -> None:
    """Without the columns that November's table does not have."""
    if known is None:
        return
    for key in COLUMN_LISTS:
        if key in table:
            table[key] = [column for column in table[key] if column in known]
    for place in (table, *table.get("steps", ())):
        for key in ("exempt", "set"):
            if key in place:
                place[key] = {column: held for column, held in place[key].items() if column in known or column == "*"}


def read(file: Path) -> Any:
    return yaml.load(file.read_text(encoding="utf-8"), Loader=Loader)  # noqa: S506 - a SafeLoader


def write(folder: Path, file: str, declared: Any) -> None:
    (folder / file).write_text(yaml.safe_dump(declared, sort_keys=False, allow_unicode=True), encoding="utf-8")


def paste(folder: Path, found: Iterable[Mismatch]) -> None:
    """Do what `lifecycle check` says: add its lines, and mark as optional what is gone."""
    for mismatch in found:
        if not mismatch.file:
            continue
        declared = read(folder / mismatch.file)
        if mismatch.lines:
            added = yaml.safe_load(mismatch.lines)
            for key in reversed(mismatch.within):
                added = {key: added}
            declared = _merged(declared, added)
        else:
            _excuse(declared, mismatch.object)
        write(folder, mismatch.file, declared)


def _merged(declared: Any, added: Any) -> Any:
    if isinstance(declared, dict) and isinstance(added, dict):
        return {**declared, **{key: _merged(declared.get(key), held) for key, held in added.items()}}
    if isinstance(declared, list) and isinstance(added, list):
        return [*declared, *(item for item in added if item not in declared)]
    return added


def _excuse(declared: Any, name: str) -> None:
    """`optional: true` on each entry of a list that names the table."""
    for held in declared.values() if isinstance(declared, dict) else declared if isinstance(declared, list) else ():
        if isinstance(held, dict) and held.get("table") == name:
            held["optional"] = True
        _excuse(held, name)

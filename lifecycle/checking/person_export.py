"""person_export.yaml against the map of personal data: words for a table that is on no map reach nobody."""

from collections.abc import Iterator
from typing import Final

from lifecycle.checking.mismatch import Mismatch
from lifecycle.declarations.application import Application

FILE: Final = "person_export.yaml"
CAPABILITY: Final = "person_export"


def explained_and_on_no_map(application: Application) -> Iterator[Mismatch]:
    """Tables that are explained to people and that no export can hold."""
    data = application.personal_data
    known = set() if data is None else {name for name, table in data.tables.items() if table.steps}
    if data is not None and data.person.sign_in is not None:
        known.add(data.person.sign_in.table)
    for name in application.person_export.root:
        if name not in known:
            told = f"is explained in {FILE} and on no map with rows of a person. Take it out, or correct the name"
            yield Mismatch(CAPABILITY, str(name), told, FILE)

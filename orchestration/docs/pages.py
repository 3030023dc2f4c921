"""Every generated page by its path below the project's root."""

import json
from pathlib import Path
from typing import Any, Final

from lifecycle.access.page import access_page
from lifecycle.declarations.application import Application
from lifecycle.declarations.schema import json_schemas
from lifecycle.erasures.map_page import personal_data_page
from orchestration.docs.assets_page import assets_page
from orchestration.docs.commands_page import commands_page
from orchestration.docs.database_page import database_page
from orchestration.docs.declarations_page import declarations_page
from orchestration.docs.partitioned_page import partitioned_page
from orchestration.docs.retention_page import retention_page
from orchestration.shipped import PROJECT

REFERENCE: Final = "docs/reference"


def pages(application: Application, commands: Any) -> dict[str, str]:
    """The text of each page; `commands` is the command `lifecycle` as Typer has assembled it."""
    schemas = {
        f"{REFERENCE}/schemas/{name}.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in json_schemas().items()
    }
    return {
        f"{REFERENCE}/assets-jobs-schedules.md": assets_page(application),
        f"{REFERENCE}/commands.md": commands_page(commands),
        f"{REFERENCE}/database-objects.md": database_page(),
        f"{REFERENCE}/declarations.md": declarations_page(),
        f"{REFERENCE}/partitioned-tables.md": partitioned_page(),
        f"{REFERENCE}/retention.md": retention_page(application),
        **_of_capabilities(application),
        **schemas,
    }


def _of_capabilities(application: Application) -> dict[str, str]:
    """Pages that a capability writes, where it is declared."""
    found = {f"{REFERENCE}/access.md": access_page(application)}
    if application.personal_data is not None:
        found[f"{REFERENCE}/personal-data-map.md"] = personal_data_page(application)
    return found


def write_pages(application: Application, commands: Any, root: Path = PROJECT) -> list[str]:
    """Write those that differ; a line per page that was written."""
    changed = []
    for name, text in pages(application, commands).items():
        file = root / name
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            changed.append(f"{name}: written")
    return changed

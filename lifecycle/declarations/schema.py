"""JSON Schema of each file, for editors: `# yaml-language-server: $schema=...` above a file makes them complete it."""

from typing import Any

from lifecycle.declarations.application import FILES


def json_schemas() -> dict[str, dict[str, Any]]:
    """The schema of each file of declarations, by the file's name without `.yaml`."""
    return {
        name: {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
        for name, model in FILES.items()
    }

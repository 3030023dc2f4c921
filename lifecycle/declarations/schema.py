"""JSON Schema of each file, for editors: `# yaml-language-server: $schema=...` above a file makes them complete it."""

from types import UnionType
from typing import Any, Final, get_args

from pydantic import TypeAdapter

from lifecycle.declarations.application import FILES

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schemas() -> dict[str, dict[str, Any]]:
    """The schema of each file of declarations, by the file's name without `.yaml`."""
    return {name: {"$schema": DIALECT, **TypeAdapter(_model(held)).json_schema()} for name, held in FILES.items()}


def _model(annotation: Any) -> Any:
    """Of a file that may be missing the model, not the nothing beside it."""
    models = [each for each in get_args(annotation) if each is not type(None)]
    return models[0] if isinstance(annotation, UnionType) else annotation

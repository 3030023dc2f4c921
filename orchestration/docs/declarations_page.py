"""docs/reference/declarations.md, made from the models of the declarations."""

from collections.abc import Iterator
from typing import Any, Final

from lifecycle.declarations.loader import DEFAULT_FOLDER
from lifecycle.declarations.schema import json_schemas
from orchestration.docs.tables import table

HEAD: Final = """\
# Declarations

Written by `lifecycle docs` from `lifecycle/declarations/`; do not edit. `LIFECYCLE_APPLICATION` names the folder,
without it `application/` of this project. A file that is missing declares nothing, and what is not declared creates
nothing. Every entry may carry `why`, the reason; an entry about an object may carry `optional: true`, and then
`lifecycle check` does not miss it. Names are `schema.name`, quoted where PostgreSQL would quote.

An editor completes and checks a file that begins with
`# yaml-language-server: $schema=` and the path of its [JSON Schema](schemas/). After a change run `lifecycle migrate`.

Beside the YAML files the folder may hold `*.sql`, database functions of the application's own that `lifecycle migrate`
applies with ours, and `schema.json`, its tables and columns as last seen, which `lifecycle schema` writes.
"""
LEFT_OUT: Final = ("why", "optional")
EXAMPLE: Final = "How `application/{file}.yaml` begins{cut}:\n\n```yaml\n{lines}\n```\n"
MOST_LINES: Final = 16


def _name(schema: dict[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _values(schema: dict[str, Any]) -> dict[str, Any] | None:
    """Of a mapping by name: what stands under each name."""
    by_pattern = [value for value in schema.get("patternProperties", {}).values() if isinstance(value, dict)]
    values = by_pattern[0] if by_pattern else schema.get("additionalProperties")
    return values if isinstance(values, dict) else None


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return f"[{_name(schema)}](#{_name(schema).lower()})"
    if "allOf" in schema or "anyOf" in schema:
        kinds = [_type(each) for each in schema.get("anyOf", schema.get("allOf", [])) if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{word}`" for word in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" if "items" in schema else "list"
    if schema.get("type") == "object":
        values = _values(schema)
        return f"by name: {_type(values)}" if values else "keys and values"
    if str(schema.get("description", "")).startswith("schema.name"):
        return "schema.name"
    if "examples" in schema:
        return "length of time"
    return {"string": "text", "integer": "number", "number": "number", "boolean": "true or false"}.get(
        schema.get("type", ""), "anything"
    )


def _keys(schema: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    required = schema.get("required", [])
    for key, value in schema.get("properties", {}).items():
        if key in LEFT_OUT:
            continue
        default = value.get("default")
        told = "required" if key in required else f"`{default}`" if default not in (None, "", [], {}) else ""
        description = str(value.get("description", ""))
        yield f"`{key}`", _type(value), told, "" if description.startswith("schema.name, quoted") else description


def _model(schema: dict[str, Any]) -> str:
    text = " ".join(str(schema.get("description", "")).split())
    keys = list(_keys(schema))
    if not keys:
        values = _values(schema)
        return f"{text} By name: {_type(values)}.\n" if values else f"{text}\n"
    return f"{text}\n\n" + table(("key", "value", "default", "what it says"), keys)


def _example(file: str) -> str:
    """The first entries of the file that is shipped, without the comment at its head."""
    lines = (DEFAULT_FOLDER / f"{file}.yaml").read_text(encoding="utf-8").splitlines()
    while lines[0].startswith("#") or not lines[0]:
        lines.pop(0)
    shown = lines[:MOST_LINES]
    while shown[-1].lstrip().startswith("#") or not shown[-1] or shown[-1].endswith(":"):
        shown.pop()
    cut = ", and more like it" if len(lines) > MOST_LINES else ""
    return EXAMPLE.format(file=file, cut=cut, lines="\n".join(shown))


def declarations_page() -> str:
    """The whole page: a section per file with an example, and below it its parts."""
    parts = [HEAD]
    told: set[str] = set()
    for file, schema in json_schemas().items():
        parts.append(f"\n## {file}.yaml\n\n{_model(schema)}\n{_example(file)}")
        for name, part in schema.get("$defs", {}).items():
            if part.get("type") == "object" and name not in told:
                told.add(name)
                parts.append(f"\n### {name}\n\n{_model(part)}")
    return "".join(parts)

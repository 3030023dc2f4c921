"""The application's own tables and views as external assets: where lineage starts.

Their columns and what each view reads come from application_schema.json, a snapshot of the application's
schema (see schema_snapshot.py); nothing is asked of a database when definitions load.
"""

import json
from collections.abc import Set
from pathlib import Path
from typing import Any

import dagster as dg

SNAPSHOT = Path(__file__).with_name("application_schema.json")
GROUP = "application"
OWNERS = ["team:application"]

DESCRIPTIONS = {
    "table": "Table of the application, which owns and writes it.",
    "view": "View of the application, computed on every read.",
    "materialized_view": "Materialized view of the application, as fresh as its last refresh.",
}


def application_key(name: str) -> dg.AssetKey:
    """The asset key of one of the application's tables or views in schema `public`."""
    return dg.AssetKey(["public", name])


def column_schema(columns: list[dict[str, Any]]) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column["name"],
                type=column["type"],
                description=column.get("comment"),
                constraints=dg.TableColumnConstraints(
                    nullable=not column.get("not_null", False),
                    unique=column.get("unique", False),
                    other=column.get("constraints", []),
                ),
            )
            for column in columns
        ]
    )


def application_spec(relation: dict[str, Any]) -> dg.AssetSpec:
    """One relation of the snapshot as an external asset."""
    kind = relation["kind"]
    return dg.AssetSpec(
        application_key(relation["name"]),
        deps=[application_key(name) for name in relation.get("reads", [])],
        description=relation.get("comment") or DESCRIPTIONS[kind],
        group_name=GROUP,
        owners=OWNERS,
        kinds={"postgres", "table" if kind == "table" else "view"},
        tags={"relation": kind},
        metadata={
            "dagster/column_schema": column_schema(relation["columns"]),
            "dagster/table_name": f"public.{relation['name']}",
        },
    )


def _snapshot() -> list[dict[str, Any]]:
    relations: list[dict[str, Any]] = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    return relations


def snapshot_column_schema(name: str) -> dg.TableSchema:
    """The columns of one of the application's relations; StopIteration when the snapshot has none of that name."""
    return column_schema(next(relation["columns"] for relation in _snapshot() if relation["name"] == name))


def application_assets(made_here: Set[dg.AssetKey] = frozenset()) -> list[dg.AssetSpec]:
    """Every table and view of the application, in the order of the snapshot, but those that our own assets make."""
    return [
        application_spec(relation) for relation in _snapshot() if application_key(relation["name"]) not in made_here
    ]

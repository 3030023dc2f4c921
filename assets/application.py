"""The application's own tables and views as external assets: where lineage starts.

Their columns and what each view reads come from schema.json of the declarations; nothing is asked of a database when
definitions load.
"""

from collections.abc import Set
from typing import Final

import dagster as dg

from assets.keys import part
from lifecycle.declarations.application import Application
from lifecycle.declarations.relations import Relation, RelationColumn
from lifecycle.names import QualifiedName

GROUP: Final = "application"
OWNERS: Final = ["team:application"]

DESCRIPTIONS: Final = {
    "table": "Table of the application, which owns and writes it.",
    "view": "View of the application, computed on every read.",
    "materialized_view": "Materialized view of the application, as fresh as its last refresh.",
}


def application_key(name: QualifiedName) -> dg.AssetKey:
    """The asset key of one of the application's tables or views."""
    return dg.AssetKey([part(name.schema), part(name.name)])


def column_schema(columns: tuple[RelationColumn, ...]) -> dg.TableSchema:
    """Columns as Dagster shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=column.type,
                description=column.comment or None,
                constraints=dg.TableColumnConstraints(
                    nullable=not column.not_null, unique=column.unique, other=list(column.constraints)
                ),
            )
            for column in columns
        ]
    )


def known_columns(application: Application, name: QualifiedName) -> dg.TableSchema:
    """The columns of one of the application's relations as last seen; none when schema.json lacks it."""
    found = (relation.columns for relation in application.relations if relation.name == name)
    return column_schema(next(found, ()))


def application_spec(relation: Relation) -> dg.AssetSpec:
    """One relation of schema.json as an external asset."""
    return dg.AssetSpec(
        application_key(relation.name),
        deps=[application_key(name) for name in relation.reads],
        description=relation.comment or DESCRIPTIONS[relation.kind],
        group_name=GROUP,
        owners=OWNERS,
        kinds={"postgres", "table" if relation.kind == "table" else "view"},
        tags={"relation": relation.kind},
        metadata={
            "dagster/column_schema": column_schema(relation.columns),
            "dagster/table_name": str(relation.name),
        },
    )


def application_assets(
    application: Application,
    made_here: Set[dg.AssetKey] = frozenset(),
    read_here: Set[dg.AssetKey] = frozenset(),
) -> list[dg.AssetSpec]:
    """Every table and view of schema.json in its order, but those that our own assets make; then what assets read that
    the application did not have when its columns were last read."""
    known = [
        application_spec(relation)
        for relation in application.relations
        if application_key(relation.name) not in made_here
    ]
    unseen = sorted(read_here - made_here - {spec.key for spec in known})
    return [*known, *map(_unseen, unseen)]


def _unseen(key: dg.AssetKey) -> dg.AssetSpec:
    return dg.AssetSpec(
        key,
        description="Table or view that the declarations name and schema.json does not: `lifecycle schema` reads it.",
        group_name=GROUP,
        owners=OWNERS,
        kinds={"postgres"},
    )

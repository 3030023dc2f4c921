"""Declared dashboards as external assets: where lineage ends, and whom a broken figure concerns."""

from typing import Final

import dagster as dg

from assets.application import application_key
from assets.keys import part
from lifecycle.declarations.application import Application
from lifecycle.declarations.views import Dashboard

GROUP: Final = "dashboards"


def _spec(name: str, dashboard: Dashboard) -> dg.AssetSpec:
    return dg.AssetSpec(
        dg.AssetKey(["dashboards", part(name)]),
        deps=[application_key(view) for view in dashboard.views],
        description=dashboard.why or f"Dashboard {name}, outside of the database.",
        group_name=GROUP,
        owners=[dashboard.owner],
        kinds={"dashboard"},
        metadata={"url": dg.MetadataValue.url(dashboard.url)},
    )


def dashboard_assets(application: Application) -> list[dg.AssetSpec]:
    """One per declared dashboard."""
    return [_spec(name, dashboard) for name, dashboard in application.views.dashboards.items()]

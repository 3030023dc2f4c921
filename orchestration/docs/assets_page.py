"""docs/reference/assets-jobs-schedules.md, made from the definitions."""

from collections.abc import Iterable
from typing import Final

import dagster as dg

from lifecycle.declarations.application import Application
from orchestration.definitions import build_definitions
from orchestration.docs.tables import table
from orchestration.limits import HOUR, MAX_RUNTIME_TAG

INTRODUCTION: Final = """# Assets, jobs, schedules

Written by `lifecycle docs` from the definitions with the declarations of `application/`; do not edit. What
the checks mean and what to do when one fails:
[read an alert or a failed run](../how-to/read-an-alert-or-a-failed-run.md).
"""


def _table(title: str, columns: str, rows: Iterable[tuple[object, ...]]) -> str:
    return f"\n## {title}\n\n{table(columns.split(', '), rows)}"


def _assets(definitions: dg.Definitions) -> str:
    specs = sorted(definitions.resolve_all_asset_specs(), key=lambda spec: spec.key.to_user_string())
    made = [spec for spec in specs if spec.group_name != "application"]
    known = [spec for spec in specs if spec.group_name == "application"]
    rows = [(f"`{s.key.to_user_string()}`", s.group_name, ", ".join(s.owners), s.description) for s in made]
    external = ", ".join(f"`{spec.key.path[-1]}`" for spec in known)
    return (
        _table("Assets", "asset, group, owner, what it is", rows)
        + f"\nExternal assets, group `application`, key `public/<name>`: {external}.\n"
    )


def _checks(definitions: dg.Definitions) -> str:
    graph = definitions.resolve_asset_graph()
    described: dict[str, tuple[str, list[str]]] = {}
    for key in sorted(graph.asset_check_keys, key=lambda key: (key.name, key.asset_key.path)):
        _, assets = described.setdefault(key.name, (graph.get_check_spec(key).description or "", []))
        assets.append(f"`{key.asset_key.path[-1]}`")
    rows = [(f"`{name}`", text, ", ".join(assets)) for name, (text, assets) in described.items()]
    return _table("Asset checks", "check, what holds, on", rows)


def assets_page(application: Application) -> str:
    """The whole page."""
    definitions = build_definitions(application)
    jobs = [definitions.resolve_job_def(job.name) for job in definitions.jobs or ()]
    schedules = [s for s in definitions.schedules or () if isinstance(s, dg.ScheduleDefinition)]
    sensors = [s for s in definitions.sensors or () if isinstance(s, dg.SensorDefinition)]
    return (
        INTRODUCTION
        + _assets(definitions)
        + _checks(definitions)
        + _table(
            "Jobs",
            "job, ended after, what it does",
            [(f"`{job.name}`", f"{int(job.tags[MAX_RUNTIME_TAG]) // HOUR} h", job.description) for job in jobs],
        )
        + _table(
            "Schedules",
            "schedule, job, cron, time zone, at the start, why",
            [
                (
                    *(f"`{text}`" for text in (s.name, s.job_name, s.cron_schedule)),
                    *(s.execution_timezone, s.default_status.value.lower(), s.description),
                )
                for s in schedules
            ],
        )
        + _table(
            "Sensors",
            "sensor, at the start, at least every, what it does",
            [
                (f"`{s.name}`", s.default_status.value.lower(), f"{s.minimum_interval_seconds} s", s.description)
                for s in sensors
            ],
        )
    )

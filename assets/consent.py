"""What people consent to, carried out every hour: counts by purpose and table, never a person."""

from datetime import timedelta
from typing import Any, Final

import dagster as dg

from assets.application import application_key
from assets.bundle import Bundle
from assets.checks import Finding, checks_of_one_look
from assets.progress import log_progress
from assets.tables import table_metadata
from lifecycle.consent.apply import (
    JOB,
    AgainstConsent,
    ConsentRun,
    NotInFiles,
    apply_consents,
    not_in_files,
    rows_against_consent,
)
from lifecycle.database import Connection
from lifecycle.declarations.application import Application
from lifecycle.pacing import pacing_of
from resources.cold_storage import ColdMonths
from resources.postgres import ApplicationDatabase, retried_when_busy

KEY: Final = dg.AssetKey(["consent_decisions"])
POOL: Final = "consent"
GROUP: Final = "erasure"
OWNERS: Final = ["team:data-platform"]
CODE_VERSION: Final = "1"
# Carried out every hour: one missed is worth a look, three are a fault.
FRESHNESS: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=4), warn_window=timedelta(hours=2))
# Written since the last run, and carried out by the next one.
SLACK: Final = "2 hours"
DECISION_COLUMNS: Final = {
    "decision": ("string", "withdrawn or granted"),
    "purpose": ("string", "what the person decided about, as consent.yaml names it"),
    "people": ("int", "who decided so since the last run"),
}
CLEARED_COLUMNS: Final = {
    "table": ("string", "table of the application"),
    "rows": ("int", "rows whose declared columns were cleared"),
}


def consent_metadata(run: ConsentRun) -> dict[str, Any]:
    """What a run did."""
    decisions = [("withdrawn", *each) for each in run.withdrawn.items()]
    decisions += [("granted", *each) for each in run.granted.items()]
    return {
        "people": run.people,
        "rows_cleared": sum(run.cleared.values()),
        "decisions": table_metadata(DECISION_COLUMNS, decisions),
        "cleared": table_metadata(CLEARED_COLUMNS, list(run.cleared.items())),
        **({"rows_from_cold_files": run.thawed} if run.thawed else {}),
    }


def no_rows_against_consent(seen: tuple[tuple[AgainstConsent, ...], tuple[NotInFiles, ...]]) -> Finding:
    """No row is held for a purpose that its person has withdrawn, but for those of the last two hours; cold months were
    looked through for every withdrawal."""
    found, unseen = seen
    total = sum(each.rows for each in found)
    told = []
    if total:
        against = "; ".join(f"{each.rows:,} rows of {each.table} ({each.purpose})" for each in found)
        told.append(f"{against} stand against consent")
    told += [f"cold files of {u.table} were not looked through for {u.people:,} people ({u.purpose})" for u in unseen]
    metadata = {"rows": total, "people_not_looked_for_in_cold_files": sum(each.people for each in unseen)}
    if told:
        return Finding(False, f"{'; '.join(told)}; run the job {JOB}", metadata)
    return Finding(True, "no row stands against consent", metadata)


def _look(conn: Connection) -> tuple[tuple[AgainstConsent, ...], tuple[NotInFiles, ...]]:
    return rows_against_consent(conn, SLACK), not_in_files(conn, SLACK)


def bundle(application: Application) -> Bundle:
    """The decisions with their check; nothing where none are declared, or nobody says who a person is."""
    consent = application.consent
    if consent is None or application.personal_data is None:
        return Bundle()
    tables = dict.fromkeys(table for purpose in consent.purposes.values() for table in purpose.tables)
    known = {relation.name for relation in application.relations}

    @dg.asset(
        key=KEY,
        deps=[application_key(name) for name in (consent.record.table, *tables) if name in known],
        group_name=GROUP,
        description=(
            f"What people decided in `{consent.record.table}` about {', '.join(consent.purposes)}, carried out: a "
            "withdrawal stops processing, or clears columns of the rows that are held against it, as consent.yaml "
            "declares. Each run asks the record anew; one that finds nothing to do changes nothing."
        ),
        kinds={"postgres"},
        owners=OWNERS,
        metadata={"dagster/table_name": "lifecycle.consent_decisions"},
        freshness_policy=FRESHNESS,
        pool=POOL,
        code_version=CODE_VERSION,
    )
    def consent_decisions(
        context: dg.AssetExecutionContext, database: ApplicationDatabase, cold_storage: ColdMonths
    ) -> dg.MaterializeResult[None]:
        with retried_when_busy(), database.connect() as conn:
            run = apply_consents(
                conn,
                storage=cold_storage.open(),
                pacing=pacing_of(application, JOB),
                progress=log_progress(context),
            )
        return dg.MaterializeResult(metadata=consent_metadata(run))

    checks = checks_of_one_look(
        "consent_decisions_checks", KEY, ((no_rows_against_consent, dg.AssetCheckSeverity.ERROR),), _look
    )
    return Bundle(assets=[consent_decisions], checks=[checks])

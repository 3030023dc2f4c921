"""Consent: the record of decisions, purposes, and what was carried out"""

from migrations.sql_file import run_sql_file

revision = "consent_0001"
down_revision = None
branch_labels = ("consent",)
depends_on = "ledger_0001"


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")

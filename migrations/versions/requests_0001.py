"""Deletion requests, where the application has no table for them"""

from migrations.sql_file import run_sql_file

revision = "requests_0001"
down_revision = None
branch_labels = ("requests",)
depends_on = "ledger_0001"


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")

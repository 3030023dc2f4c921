"""Deletion requests as jobs: the map of personal data, the queue, keys, findings, receipts"""

from migrations.sql_file import run_sql_file

revision = "erasures_0001"
down_revision = None
branch_labels = ("erasures",)
depends_on = "ledger_0001"


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")

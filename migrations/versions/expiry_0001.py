"""Rows that are kept for a time: how long, in which tables, by which columns"""

from migrations.sql_file import run_sql_file

revision = "expiry_0001"
down_revision = None
branch_labels = ("expiry",)
depends_on = "ledger_0001"


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")

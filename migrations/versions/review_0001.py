"""Sizes day by day, and one weekly report a week"""

from migrations.sql_file import run_sql_file

revision = "review_0001"
down_revision = None
branch_labels = ("review",)
depends_on = "ledger_0001"


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")

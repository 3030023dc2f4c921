"""Which materialized views are refreshed, and how each of them stands"""

from migrations.sql_file import run_sql_file

revision = "views_0001"
down_revision = None
branch_labels = ("views",)
depends_on = "ledger_0001"


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")

"""Event partitions: their schema, the policy of each declared table, what conversions remember"""

from migrations.sql_file import run_sql_file

revision = "partitions_0001"
down_revision = None
branch_labels = ("partitions",)
depends_on = "ledger_0001"


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")

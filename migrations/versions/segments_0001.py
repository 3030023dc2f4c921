"""What segments are computed from, and which accounts wait for it"""

from migrations.sql_file import run_sql_file

revision = "segments_0001"
down_revision = None
branch_labels = ("segments",)
depends_on = "ledger_0001"


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")

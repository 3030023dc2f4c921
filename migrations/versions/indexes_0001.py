"""Indexes of hot queries: the plans before them"""

from migrations.sql_file import run_sql_file

revision = "indexes_0001"
down_revision = None
branch_labels = ("indexes",)
depends_on = "migrating_0001"


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")

"""Kept views: how each is refreshed, what it reads, and which rows changed"""

from migrations.sql_file import run_sql_file

revision = "views_0002"
down_revision = "views_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")

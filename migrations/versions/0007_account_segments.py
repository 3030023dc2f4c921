"""Segments: what an account likes, kept in its profile's preferences and computed again when a source changes"""

from migrations.sql_file import run_sql_file

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")

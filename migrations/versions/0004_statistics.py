"""Statistics: tables for the dashboards, refresh of materialized views, comparison with the sources"""

from migrations.sql_file import run_sql_file

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")

"""The unique index by which each materialized view is refreshed, to be named once it is gone"""

from migrations.sql_file import run_sql_file

revision = "views_0003"
down_revision = "views_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")

"""Kept views: on which server the last refresh was, so that a restored dump begins anew"""

from migrations.sql_file import run_sql_file

revision = "views_0004"
down_revision = "views_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")

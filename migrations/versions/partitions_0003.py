"""Event tables: the zone of a time without time zone"""

from migrations.sql_file import run_sql_file

revision = "partitions_0003"
down_revision = "partitions_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")

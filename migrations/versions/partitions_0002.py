"""Event tables: after what time a month leaves the database"""

from migrations.sql_file import run_sql_file

revision = "partitions_0002"
down_revision = "partitions_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")

"""Months in object storage: which files hold them, and how they came there"""

from migrations.sql_file import run_sql_file

revision = "cold_0001"
down_revision = None
branch_labels = ("cold",)
depends_on = "partitions_0002"


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")

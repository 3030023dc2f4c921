"""What a migration applied: files of functions, and the functions that came from them"""

from migrations.sql_file import run_sql_file

revision = "migrating_0001"
down_revision = None
branch_labels = ("migrating",)
depends_on = None


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")

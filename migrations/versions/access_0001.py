"""Who may see what: the role ops, the schema of what policies ask, what was changed and accepted"""

from migrations.sql_file import run_sql_file

revision = "access_0001"
down_revision = None
branch_labels = ("access",)
depends_on = "migrating_0001"


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")

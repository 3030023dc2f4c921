"""Alembic revisions. Each has a sibling .sql with what it runs; both are immutable once landed."""

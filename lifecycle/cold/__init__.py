"""Months that left PostgreSQL: files in object storage, and how they are put there, read, and removed for good."""

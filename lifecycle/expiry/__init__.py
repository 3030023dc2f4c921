"""Rows that are kept for a declared time and then deleted, in batches."""

"""Rows that are kept for a declared time and then deleted, in batches.

What is deleted is decided in the database (expiry.sql), so that psql and a scheduler in the database can do it, too.
"""

"""Materialized views of the application: refreshed on time, by their own definition."""

"""Dagster's wiring and the command line: the top layer, imported by nothing.

Belongs here: definitions, jobs, the timetable, the `lifecycle` command and its demo; the only place that
reads environment variables. Does not belong here: anything a test of the data would need.
"""

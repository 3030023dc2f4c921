"""Connections that assets, checks, jobs and sensors ask for by name.

Belongs here: how to reach a system, and what its errors mean to Dagster. Does not belong here: what is
done with the connection, and environment variables (orchestration/definitions.py names those).
"""

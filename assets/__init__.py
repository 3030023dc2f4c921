"""What exists and how it is made: Dagster assets and their checks.

Belongs here: keys, descriptions, policies and metadata of assets. Does not belong here: the work itself
(lifecycle/), schedules and jobs (orchestration/), connections (resources/).
"""

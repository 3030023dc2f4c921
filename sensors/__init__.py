"""What starts runs or reports on them, in Dagster's daemon.

Belongs here: reading Dagster's own records and passing them on. Does not belong here: the work of a run
(assets/, lifecycle/) and the timetable (orchestration/schedules.py).
"""

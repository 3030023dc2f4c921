"""The life-cycle logic: policy, plans and the SQL that carries them out.

Plain Python over PostgreSQL. Belongs here: everything that must also work without Dagster. Does not
belong here: assets, schedules, environment variables, clocks read behind the caller's back.
"""

"""What test_daemon.py and its code location agree on."""

from datetime import timedelta

JOB = "check_declarations"
SCHEDULE = "every_minute"
LAUNCHES = "launches"
# Keys in Dagster's own key-value store, each a list: runs to start, and whether the timetable rests.
LAUNCHES_KEY, QUIET_KEY = "tests/launches", "tests/quiet"
# The advisory lock for which runs wait while the test holds it.
HOLD = 77012
# A starved machine may need twice the ten seconds from one sign of life to the next.
SILENCE = timedelta(seconds=40)
TELL_AFTER = timedelta(seconds=5)

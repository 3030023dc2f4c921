"""`lifecycle demo`: the whole life cycle on a throwaway PostgreSQL, from a bare machine to Dagster's UI.

Belongs here: what only the demo does. Does not belong here: anything that a run against a real database
needs; nothing but the command line and tests import this package or the sandbox.
"""

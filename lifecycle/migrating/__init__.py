"""The phases of `lifecycle migrate`: revisions, declarations into policy tables, functions, objects.

Belongs here: what is the same for every capability. Does not belong here: SQL of a capability; that stands in its own
folder, and migrating/capabilities.py lists it.
"""

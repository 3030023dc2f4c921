"""Deletion requests of people whose application has no table of its own for them.

Belongs here: our table and the function that writes it. Does not belong here: what is done about a request; that is in
lifecycle/erasures/, whoever's table it stands in.
"""

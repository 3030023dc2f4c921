"""Erasing a person: the map of personal data, the queue of deletion jobs, their steps, the proof.

The work itself is done by database functions (migrations/versions/0010 to 0012). Here is what they are told, what
they cannot do (read compressed text), and what people ask about a request. Nothing here returns a value of a row.
"""

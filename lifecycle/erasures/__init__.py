"""Erasing a person: the map of personal data, the queue of deletion jobs, their steps, the proof.

The work itself is done by database functions, in the SQL files here; personal_data.yaml says to whom and to what. In
Python stands what the database cannot do (read compressed text), and what people ask about a request. Nothing here
returns a value of a row.
"""

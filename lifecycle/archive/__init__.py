"""Rows past their time move to an archive beside their table, whole, and come back whole.

Belongs here: making the archive after its table, moving, reading, bringing back, how it stands, and who may read it.
Does not belong here: what is done to the rows of a person who is erased.
"""

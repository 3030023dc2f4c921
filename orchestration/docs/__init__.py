"""The pages of docs/ that are made from code and declarations: `lifecycle docs` writes them, a test compares them.

Belongs here: assembling them, and pages about Dagster, commands and the form of the declarations. Does not belong here:
pages about one capability; those are written in its folder in lifecycle/.
"""

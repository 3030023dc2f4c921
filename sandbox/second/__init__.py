"""An application that is nothing like the first, for tests: its schema, a few rows, and its declarations.

Belongs here: what another team would bring along. Does not belong here: anything that the machinery needs.
"""

"""Whether declarations and database agree: `lifecycle check`, and the application's schema as last seen.

Belongs here: comparisons of the declarations with the catalog, and the lines to paste that bring them together. Does
not belong here: changing either of them.
"""

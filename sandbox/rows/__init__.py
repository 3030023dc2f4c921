"""Sample rows of the application, one module per topic, written as lines of COPY text.

Every function takes a World and yields the same lines for the same (scale, seed, now). Nothing here talks to a
database, and no table is ever held in memory as a whole.
"""

"""Who may see what: declared as data, made by `lifecycle migrate`, compared with the live catalog each day.

`declared` says it, `changes` compares and `apply` makes it so. `accepted` remembers what the application itself has
decided, `exposures` finds what no declaration names. Nothing is ever opened to anon or authenticated that was not open
before, but for the three tables of the vendors.
"""

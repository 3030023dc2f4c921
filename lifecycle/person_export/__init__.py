"""Access to one's data: everything that the map of personal data reaches of one person, as files for that person.

What a person is, where their rows stand and what vouches for a key is the map's (lifecycle/erasures). Nothing here
changes a row of the application, and nothing of what is exported may reach Dagster, a log or the ledger.
"""

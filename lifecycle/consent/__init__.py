"""Consent at the level of the database: what people decided is the application's record, what follows is declared.

The database functions are complete by themselves (consent.sql); here they are called batch by batch. Who a person is,
and how columns are cleared, is the map's of personal data (lifecycle/erasures). No decision is made or changed here.
"""

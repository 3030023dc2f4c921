"""A throwaway Supabase-like database: embedded server, Supabase emulation, the application's schema, rows.

For the demo, the tests and the benchmarks. Production never imports it, it never imports Dagster, and it
reads no environment: every choice is an argument.
"""

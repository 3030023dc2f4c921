"""Indexes that are kept on the application's tables: declared, built without stopping writers, reported on."""

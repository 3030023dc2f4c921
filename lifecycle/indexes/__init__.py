"""Indexes that this project keeps on the application's tables: declared, built without stopping writers, reported on."""

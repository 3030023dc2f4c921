"""Numbers as people read them, for metadata and pictures."""

from lifecycle.units import size_text

__all__ = ["size_text"]

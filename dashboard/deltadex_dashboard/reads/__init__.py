"""Cached reads of the screens."""

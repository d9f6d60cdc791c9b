"""Deltadex's Prefect flows: thin wraps around the library."""

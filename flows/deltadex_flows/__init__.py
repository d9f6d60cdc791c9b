"""Prefect flows that call the library."""

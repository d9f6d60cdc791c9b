"""Rows of model versions, and their states."""

"""Drift of a registered model from version to version."""

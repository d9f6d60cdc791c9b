"""The two-dimensional map of a registry."""

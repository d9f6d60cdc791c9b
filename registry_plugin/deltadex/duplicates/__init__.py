"""Redundant versions: pairs, groups, and which one to keep."""

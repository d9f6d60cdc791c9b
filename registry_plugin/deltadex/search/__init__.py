"""Nearest neighbours with conditions."""

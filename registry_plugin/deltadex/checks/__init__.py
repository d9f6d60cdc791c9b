"""Checks of one version by its findings, for a pipeline that promotes it."""

"""Lineage of a model version: what it was made from and what was made from it, declared and measured."""

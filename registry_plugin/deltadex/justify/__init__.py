"""Justification of advice: a plan executed over model cards, parameters and metrics (after PEARL, arXiv 2305.14564)."""

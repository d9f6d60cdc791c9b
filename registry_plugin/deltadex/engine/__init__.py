"""Embedding and training with torch. Importing this package itself imports no torch."""
